//! What both kinds of policies are made of: selectors, networks, ports.

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use towpath_net::lease::Protocol;
use towpath_net::policy::input::{Operator, Requirement, Selector};

use super::finding::{Findings, Path, Problem};

/// A selector of those that a policy is for. A requirement that is not understood is left out: the policy is then for
/// more rather than for fewer.
pub(super) fn wide(raw: LabelSelector, at: Path<'_>, findings: &mut Findings) -> Selector {
    let labels = raw.match_labels.unwrap_or_default();
    let at = at.field("matchExpressions");
    let written = raw.match_expressions.unwrap_or_default().into_iter().enumerate();
    let expressions = written.filter_map(|(index, raw)| requirement(raw, at.item(index), findings)).collect();
    Selector { labels, expressions }
}

/// A selector of those that something is said about; nothing where a part of it is not understood.
pub(super) fn exact(raw: LabelSelector, at: Path<'_>, findings: &mut Findings) -> Option<Selector> {
    let before = findings.0.len();
    let selector = wide(raw, at, findings);
    (findings.0.len() == before).then_some(selector)
}

fn requirement(raw: LabelSelectorRequirement, at: Path<'_>, findings: &mut Findings) -> Option<Requirement> {
    let LabelSelectorRequirement { key, operator, values } = raw;
    let values = values.unwrap_or_default();
    let read = match (operator.as_str(), values.is_empty()) {
        ("In", false) => Ok(Operator::In(values.into_iter().collect())),
        ("NotIn", false) => Ok(Operator::NotIn(values.into_iter().collect())),
        ("Exists", true) => Ok(Operator::Exists),
        ("DoesNotExist", true) => Ok(Operator::DoesNotExist),
        ("In" | "NotIn", true) => Err(Problem::NoValues),
        ("Exists" | "DoesNotExist", false) => Err(Problem::Values),
        _ => Err(Problem::Operator),
    };
    let operator = findings.keep(at.field("operator"), operator, read)?;
    Some(Requirement { key, operator })
}

/// A network. Bits beyond its prefix do not count, and octets are decimal whatever they begin with: that is how the API
/// server reads what it let in before it refused both (KEP-4858).
pub(super) fn cidr(text: &str) -> Result<IpNet, Problem> {
    let net: IpNet = text.parse().map_err(|_| Problem::Cidr)?;
    match net {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => Err(Problem::Mapped),
        net => Ok(net.trunc()),
    }
}

/// A protocol by its name.
pub(super) fn protocol(name: &str) -> Result<Protocol, Problem> {
    match name {
        "TCP" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        "SCTP" => Ok(Protocol::Sctp),
        _ => Err(Problem::Protocol),
    }
}

/// A port by its number.
pub(super) fn port(number: i32) -> Result<u16, Problem> {
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or(Problem::Port)
}
