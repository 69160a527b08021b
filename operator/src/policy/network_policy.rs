//! `networking.k8s.io/v1` `NetworkPolicy`, as it is compiled.
//!
//! What is not understood allows nothing: such a peer or port is left out, and a rule of which nothing remains. Whatever is
//! not understood, the policy isolates the pods that it selects: a requirement of its `podSelector` that is not understood
//! is left out, so that it selects more rather than fewer, and a policy type that is not understood isolates both ways.
//! The API server refuses all of that today, but keeps what an older one let in.

#[cfg(test)]
mod tests;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use towpath_net::lease::Protocol;
use towpath_net::policy::input::{Block, Key, NetworkPolicy, Peer, Port, Rule, Selector};

use super::finding::{Finding, Findings, Path, Problem};
use super::parts::{cidr, exact, port, protocol, wide};

/// A policy as it is compiled, and what of it cannot be honoured.
pub fn network_policy(key: Key, spec: NetworkPolicySpec) -> (NetworkPolicy, Vec<Finding>) {
    let at = Path::SPEC;
    let mut findings = Findings::default();
    let given = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
    let ways = Ways::of(spec.policy_types.unwrap_or_default(), given, at.field("policyTypes"), &mut findings);
    let pods = wide(spec.pod_selector.unwrap_or_default(), at.field("podSelector"), &mut findings);
    let ingress = spec.ingress.unwrap_or_default().into_iter().map(Written::from);
    let egress = spec.egress.unwrap_or_default().into_iter().map(Written::from);
    let policy = NetworkPolicy {
        key,
        pods,
        ingress: ways.ingress.then(|| rules(ingress, at.field("ingress"), &mut findings)),
        egress: ways.egress.then(|| rules(egress, at.field("egress"), &mut findings)),
    };
    (policy, findings.0)
}

/// Which ways a policy isolates.
struct Ways {
    ingress: bool,
    egress: bool,
}

impl Ways {
    /// By `policyTypes`; without any, ingress in any case, and egress where there are rules for it.
    fn of(types: Vec<String>, egress_given: bool, at: Path<'_>, findings: &mut Findings) -> Self {
        if types.is_empty() {
            return Self { ingress: true, egress: egress_given };
        }
        let mut ways = Self { ingress: false, egress: false };
        for (index, name) in types.into_iter().enumerate() {
            match name.as_str() {
                "Ingress" => ways.ingress = true,
                "Egress" => ways.egress = true,
                _ => {
                    findings.add(at.item(index), name, Problem::PolicyType);
                    ways = Self { ingress: true, egress: true };
                }
            }
        }
        ways
    }
}

/// A rule of either way.
struct Written {
    side: &'static str,
    peers: Vec<NetworkPolicyPeer>,
    ports: Vec<NetworkPolicyPort>,
}

impl From<NetworkPolicyIngressRule> for Written {
    fn from(rule: NetworkPolicyIngressRule) -> Self {
        Self { side: "from", peers: rule.from.unwrap_or_default(), ports: rule.ports.unwrap_or_default() }
    }
}

impl From<NetworkPolicyEgressRule> for Written {
    fn from(rule: NetworkPolicyEgressRule) -> Self {
        Self { side: "to", peers: rule.to.unwrap_or_default(), ports: rule.ports.unwrap_or_default() }
    }
}

fn rules(written: impl Iterator<Item = Written>, at: Path<'_>, findings: &mut Findings) -> Vec<Rule> {
    let read = |(index, rule): (usize, Written)| {
        let at = at.item(index);
        let peers = some(rule.peers, at.field(rule.side), |raw, at| peer(raw, at, findings));
        let ports = some(rule.ports, at.field("ports"), |raw, at| ports_of(raw, at, findings));
        // Where nothing of a list is understood, it does not mean everything, but nothing.
        let means_something = peers.as_ref().is_none_or(|peers| !peers.is_empty())
            && ports.as_ref().is_none_or(|ports| !ports.is_empty());
        means_something.then_some(Rule { peers, ports })
    };
    written.enumerate().filter_map(read).collect()
}

/// What is understood of a list; nothing where it is missing or empty.
fn some<T, U>(list: Vec<T>, at: Path<'_>, mut read: impl FnMut(T, Path<'_>) -> Option<U>) -> Option<Vec<U>> {
    if list.is_empty() {
        return None;
    }
    Some(list.into_iter().enumerate().filter_map(|(index, one)| read(one, at.item(index))).collect())
}

fn peer(raw: NetworkPolicyPeer, at: Path<'_>, findings: &mut Findings) -> Option<Peer> {
    match (raw.ip_block, raw.namespace_selector, raw.pod_selector) {
        (Some(raw), None, None) => block(raw, at.field("ipBlock"), findings).map(Peer::Block),
        (None, None, Some(pods)) => {
            let pods = exact(pods, at.field("podSelector"), findings)?;
            Some(Peer::Pods { namespaces: None, pods })
        }
        (None, Some(namespaces), pods) => {
            let namespaces = exact(namespaces, at.field("namespaceSelector"), findings);
            let pods = pods.map_or(Some(Selector::default()), |pods| exact(pods, at.field("podSelector"), findings));
            Some(Peer::Pods { namespaces: Some(namespaces?), pods: pods? })
        }
        (None, None, None) | (Some(_), _, _) => {
            findings.add(at, "", Problem::Peer);
            None
        }
    }
}

/// A block; nothing where any of it is not understood: without an exception it would allow more than was meant.
fn block(raw: IPBlock, at: Path<'_>, findings: &mut Findings) -> Option<Block> {
    let net = findings.keep(at.field("cidr"), &raw.cidr, cidr(&raw.cidr))?;
    let before = findings.0.len();
    let mut except = Vec::new();
    let at = at.field("except");
    for (index, text) in raw.except.unwrap_or_default().iter().enumerate() {
        let part = cidr(text);
        let within =
            |part: ipnet::IpNet| if net != part && net.contains(&part) { Ok(part) } else { Err(Problem::Except) };
        except.extend(findings.keep(at.item(index), text, part.and_then(within)));
    }
    (findings.0.len() == before).then_some(Block { cidr: net, except })
}

fn ports_of(raw: NetworkPolicyPort, at: Path<'_>, findings: &mut Findings) -> Option<Port> {
    let protocol = match raw.protocol {
        None => Protocol::Tcp,
        Some(name) => findings.keep(at.field("protocol"), &name, protocol(&name))?,
    };
    let end = at.field("endPort");
    match (raw.port, raw.end_port) {
        (None, None) => Some(Port::All(protocol)),
        (Some(IntOrString::Int(number)), last) => {
            let first = findings.keep(at.field("port"), number, port(number))?;
            let last = last.unwrap_or(number);
            let read = port(last).and_then(|last| if last < first { Err(Problem::EndBelow) } else { Ok(last) });
            Some(Port::Range(protocol, first, findings.keep(end, last, read)?))
        }
        (Some(IntOrString::String(name)), None) => {
            let is_name = name.bytes().any(|byte| byte.is_ascii_alphabetic());
            let read = if is_name { Ok(()) } else { Err(Problem::PortName) };
            findings.keep(at.field("port"), &name, read)?;
            Some(Port::Named(protocol, name))
        }
        (None | Some(IntOrString::String(_)), Some(last)) => {
            findings.add(end, last, Problem::EndAlone);
            None
        }
    }
}
