//! One rule of a `ClusterNetworkPolicy`.

use towpath_crds::cluster_policy::{self as api, Part};
use towpath_net::Family;
use towpath_net::lease::Protocol;
use towpath_net::policy::input::{Action, ClusterPeer, ClusterRule, Port};

use super::super::finding::{Findings, Path, Problem};
use super::super::parts::{cidr, exact, port};
use super::{pods_by, understood};

/// What becomes of everything where nobody can say of what.
pub(super) fn deny_all(name: String) -> ClusterRule {
    let peers = Family::ALL.map(|family| ClusterPeer::Network(family.everything())).into();
    ClusterRule { name, action: Action::Deny, peers, ports: None }
}

/// A rule for what comes in; nothing where it matches nothing.
pub(super) fn ingress(rule: api::IngressRule, at: Path<'_>, findings: &mut Findings) -> Option<ClusterRule> {
    let from = at.field("from");
    let before = findings.0.len();
    let peers = list(rule.from, from, findings, |raw: api::IngressPeer, at, findings| {
        Some(vec![ClusterPeer::Pods(pods_by((raw.namespaces, raw.pods), at, findings, exact)?)])
    });
    let ports = rule.protocols.map(|raw| list(raw, at.field("protocols"), findings, ports));
    let is_whole = findings.0.len() == before;
    closed(is_whole, ClusterRule { name: rule.name, action: action(rule.action), peers, ports })
}

/// A rule for what goes out; nothing where it matches nothing.
pub(super) fn egress(rule: api::EgressRule, at: Path<'_>, findings: &mut Findings) -> Option<ClusterRule> {
    let before = findings.0.len();
    let peers = list(rule.to, at.field("to"), findings, egress_peers);
    let ports = rule.protocols.map(|raw| list(raw, at.field("protocols"), findings, ports));
    let named = |port: &Port| matches!(port, Port::NamedOfAny(_));
    let are_pods = |peer: &ClusterPeer| matches!(peer, ClusterPeer::Pods(_));
    if let Some(Port::NamedOfAny(name)) = ports.iter().flatten().find(|port| named(port))
        && !peers.iter().all(are_pods)
    {
        findings.add(at.field("protocols"), name, Problem::NamedElsewhere);
    }
    let is_whole = findings.0.len() == before;
    closed(is_whole, ClusterRule { name: rule.name, action: action(rule.action), peers, ports })
}

/// A rule that is understood, or what stands for one that is not.
fn closed(is_whole: bool, rule: ClusterRule) -> Option<ClusterRule> {
    match rule.action {
        _ if is_whole => Some(rule),
        Action::Accept => None,
        Action::Deny | Action::Pass => Some(deny_all(rule.name)),
    }
}

const fn action(action: api::Action) -> Action {
    match action {
        api::Action::Accept => Action::Accept,
        api::Action::Deny => Action::Deny,
        api::Action::Pass => Action::Pass,
    }
}

/// What a list that must not be empty means.
fn list<T, U>(
    list: Vec<Part<T>>,
    at: Path<'_>,
    findings: &mut Findings,
    read: fn(T, Path<'_>, &mut Findings) -> Option<Vec<U>>,
) -> Vec<U> {
    if list.is_empty() {
        findings.add(at, "", Problem::Empty);
    }
    let one = |(index, part): (usize, Part<T>)| {
        let at = at.item(index);
        understood(Some(part), at, findings).and_then(|raw| read(raw, at, findings))
    };
    list.into_iter().enumerate().filter_map(one).flatten().collect()
}

fn egress_peers(raw: api::EgressPeer, at: Path<'_>, findings: &mut Findings) -> Option<Vec<ClusterPeer>> {
    match (raw.namespaces, raw.pods, raw.nodes, raw.networks, raw.domain_names) {
        (namespaces, pods, None, None, None) => {
            Some(vec![ClusterPeer::Pods(pods_by((namespaces, pods), at, findings, exact)?)])
        }
        (None, None, Some(nodes), None, None) => {
            Some(vec![ClusterPeer::Nodes(exact(nodes, at.field("nodes"), findings)?)])
        }
        (None, None, None, Some(networks), None) => Some(self::networks(&networks, at.field("networks"), findings)),
        (None, None, None, None, Some(names)) => {
            findings.add(at.field("domainNames"), names.join(", "), Problem::DomainNames);
            None
        }
        _ => {
            findings.add(at, "", Problem::Peer);
            None
        }
    }
}

fn networks(texts: &[String], at: Path<'_>, findings: &mut Findings) -> Vec<ClusterPeer> {
    if texts.is_empty() {
        findings.add(at, "", Problem::Empty);
    }
    let one = |(index, text): (usize, &String)| findings.keep(at.item(index), text, cidr(text));
    texts.iter().enumerate().filter_map(one).map(ClusterPeer::Network).collect()
}

fn ports(raw: api::Protocols, at: Path<'_>, findings: &mut Findings) -> Option<Vec<Port>> {
    let read = match (raw.tcp, raw.udp, raw.sctp, raw.destination_named_port) {
        (Some(to), None, None, None) => range(Protocol::Tcp, &to, at.field("tcp"), findings)?,
        (None, Some(to), None, None) => range(Protocol::Udp, &to, at.field("udp"), findings)?,
        (None, None, Some(to), None) => range(Protocol::Sctp, &to, at.field("sctp"), findings)?,
        (None, None, None, Some(name)) if !name.is_empty() => Port::NamedOfAny(name),
        _ => {
            findings.add(at, "", Problem::Ports);
            return None;
        }
    };
    Some(vec![read])
}

fn range(protocol: Protocol, to: &api::Destination, at: Path<'_>, findings: &mut Findings) -> Option<Port> {
    let at = at.field("destinationPort");
    let (first, last) = match to.destination_port {
        Some(api::Port { number: Some(number), range: None }) => (number, number),
        Some(api::Port { number: None, range: Some(range) }) => (range.start, range.end),
        _ => {
            findings.add(at, "", Problem::Ports);
            return None;
        }
    };
    let first = findings.keep(at, first, port(first))?;
    let read = port(last).and_then(|last| if last < first { Err(Problem::EndBelow) } else { Ok(last) });
    Some(Port::Range(protocol, first, findings.keep(at, last, read)?))
}
