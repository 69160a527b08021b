//! Says who denies a flow, and to whom.

use std::net::{IpAddr, SocketAddr};

use towpath_net::policy::bundle::Isolation;
use towpath_net::policy::chains::names;
use towpath_net::policy::evaluate::Verdict;
use towpath_net::policy::input::Tier;
use towpath_net::policy::objects::Way;
use tracing::info;

use super::denied::Denied;
use super::policies::Policies;

impl Policies {
    /// Writes a denied flow to the log.
    pub fn tell_denied(&self, denied: &Denied) {
        let packet = denied.told.packet;
        let own = match denied.denial.way {
            Way::Ingress => packet.destination,
            Way::Egress => packet.source,
        };
        let (why, policy) = match self.uid_at(own).filter(|_| denied.denial.is_known) {
            Some(uid) => reason(&self.bundle.judge_pod(uid, denied.denial.way, &packet)),
            None => ("NotKnown", String::new()),
        };
        info!(
            direction = %denied.denial.way,
            from = self.name_of(packet.source),
            to = self.name_of(packet.destination),
            source = end(packet.source, denied.told.source_port),
            destination = end(packet.destination, packet.port),
            protocol = protocol(packet.protocol),
            why,
            policy,
            packets = denied.packets,
            "denied"
        );
    }

    fn uid_at(&self, address: IpAddr) -> Option<&str> {
        self.table.program()?.bound().get(&address).map(|bound| bound.uid.as_str())
    }

    /// The pod that has an address, where it is one of this node; otherwise the address.
    fn name_of(&self, address: IpAddr) -> String {
        let leased = || self.leases.values().find(|pod| pod.addresses.contains(&address)).map(|pod| &pod.key);
        let key = self.uid_at(address).and_then(|uid| self.bundle.pods.get(uid)).map(|pod| &pod.key);
        key.or_else(leased).map_or_else(|| address.to_string(), |key| format!("{}/{}", key.namespace, key.name))
    }
}

/// Why, and the policies that it is due to.
fn reason(verdict: &Verdict<'_>) -> (&'static str, String) {
    match verdict {
        Verdict::Unknown => ("NotKnown", String::new()),
        Verdict::Isolated(Isolation { policies, .. }) => ("Isolated", names(policies)),
        Verdict::Ruled(Tier::Admin, rule) if !verdict.passes() => ("Admin", rule.policy.clone()),
        Verdict::Ruled(Tier::Baseline, rule) if !verdict.passes() => ("Baseline", rule.policy.clone()),
        // What it was due to has changed meanwhile.
        _ => ("NoLonger", String::new()),
    }
}

fn end(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string())
}

/// The name of a protocol, or its number (IANA).
fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        other => other.to_string(),
    }
}
