//! Settings below `/proc/sys`.

use std::collections::BTreeMap;

use super::leases::is_bridged;
use super::vantage::families;
use super::{device_names, leases};
use crate::device::{BRIDGE, transport_of};
use crate::family::{Family, PerFamily};
use crate::lease::{Lease, Phase};
use crate::observed::Sysctl;
use crate::state::{Attachment, NodeState};

/// Whether the node forwards packets of a family at all.
const FORWARDING: PerFamily<&str> = PerFamily { v4: "net/ipv4/ip_forward", v6: "net/ipv6/conf/all/forwarding" };

/// The settings that a node should have: what must be read before its state is rendered. Those of its links come and go
/// with them; only the others are the node's own, which has them back when Towpath leaves.
pub fn settings_of(state: &NodeState, leases: &[Lease]) -> BTreeMap<Sysctl, String> {
    let present = families(&state.spec);
    let mut all = BTreeMap::new();
    for family in Family::ALL.into_iter().filter(|family| *present.get(*family)) {
        all.insert(Sysctl((*FORWARDING.get(family)).to_owned()), "1".to_owned());
    }
    let mut of_link = |family, link: &str, name: &str, value: &str| {
        all.insert(Sysctl::of_link(family, link, name), value.to_owned());
    };
    for device in device_names(state, leases) {
        if transport_of(device).is_some() {
            // The way back may be another one (ip-sysctl, rp_filter): the greater of this and the setting for all counts.
            of_link(Family::V4, device, "rp_filter", "2");
        }
        if present.v6 {
            of_link(Family::V6, device, "disable_ipv6", "0");
            of_link(Family::V6, device, "accept_ra", "0");
        }
    }
    if leases::has_bridge(state, leases) {
        // Pods on the bridge look there for every pod of their subnet, and some may be attached otherwise.
        of_link(Family::V4, BRIDGE, "proxy_arp", "1");
        if present.v6 {
            of_link(Family::V6, BRIDGE, "proxy_ndp", "1");
        }
        let reached = leases.iter().any(|lease| is_bridged(lease) && lease.loopback(Family::V4).is_some());
        of_link(Family::V4, BRIDGE, "route_localnet", if reached { "1" } else { "0" });
    }
    for lease in leases.iter().filter(|lease| lease.phase == Phase::Ready && !is_bridged(lease)) {
        let has_ipv4 = lease.addresses.iter().any(|leased| Family::of(leased.gateway) == Family::V4);
        if lease.mode == Attachment::LinkLocal && has_ipv4 {
            of_link(Family::V4, &lease.host_interface, "proxy_arp", "1");
        }
        if lease.loopback(Family::V4).is_some() {
            of_link(Family::V4, &lease.host_interface, "route_localnet", "1");
        }
    }
    all
}
