//! What packets pods may send, whatever policies there are: their own.
//!
//! A packet that comes by a link of a pod is from the pod's Ethernet address and one of its addresses, or goes no further. Pods
//! behind the bridge come by the same link, and their ports take frames from their own Ethernet addresses alone (`locked`):
//! so here their addresses are told by these. Frames that IP does not see are looked at where they come to the bridge.
//! What pods say of who has which address is about themselves.

use std::net::{IpAddr, Ipv6Addr};

use crate::family::{Family, PerFamily};
use crate::lease::{Lease, POD_LINKS};
use crate::link_name::LinkName;
use crate::mac::Mac;
use crate::nft::build::{Either, RuleBuilder, Side, filter_chain, inner_chain};
use crate::nft::{Chain, Element, FieldType, Hook, Rule, Set, Value};
use crate::render::leases::is_bridged;

use super::{LOOPBACK, RAW};

/// `link . Ethernet address . address` of each pod.
const SENDERS: PerFamily<&str> = PerFamily { v4: "senders-v4", v6: "senders-v6" };
/// `Ethernet address . Ethernet address . address` of each pod behind the bridge: of the frame, and of what ARP says.
const BRIDGED_SENDERS: &str = "bridged-senders";
/// The chains for packets of pods, for messages that say who has an address, and for packets from nobody yet.
const FROM_PODS: &str = "from-pods";
const NEIGHBOURS: &str = "neighbours";
const NAMELESS: &str = "nameless";
/// The chain for frames that come to a port of the bridge.
const BRIDGED_FRAMES: &str = "bridged-frames";

/// Types of messages of `ICMPv6`: a listener report (RFC 3810, section 5.2), and a router's advertisement, a neighbour's
/// solicitation and its advertisement (RFC 4861, section 4).
const LISTENER_REPORT: u8 = 143;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Types of frames (IANA, `EtherType` numbers).
const ARP: [u8; 2] = [0x08, 0x06];
const PACKETS: PerFamily<[u8; 2]> = PerFamily { v4: [0x08, 0x00], v6: [0x86, 0xdd] };

/// What a lease puts into the sets of senders: the name of the set with each element.
pub fn sender_elements(lease: &Lease) -> Vec<(&'static str, Element)> {
    let mac = lease.macs().pod;
    let link = Value::Link(LinkName::from(lease.node_link()));
    let key = |key: Vec<Value>| Element::Key { key, data: Vec::new() };
    let sender = |address: IpAddr| {
        (*SENDERS.get(Family::of(address)), key(vec![link, Value::Mac(mac), Value::Address(address)]))
    };
    let held = || lease.addresses.iter().map(|leased| leased.address.addr());
    let link_local = held().any(|address| address.is_ipv6()).then(|| link_local(mac).into());
    let mut elements: Vec<_> = held().chain(link_local).map(sender).collect();
    if is_bridged(lease) {
        let with_arp = held().filter(IpAddr::is_ipv4);
        let own = |address| key(vec![Value::Mac(mac), Value::Mac(mac), Value::Address(address)]);
        elements.extend(with_arp.map(|address| (BRIDGED_SENDERS, own(address))));
    }
    elements
}

/// The address that an interface gives itself (RFC 4291, section 2.5.6 and appendix A).
fn link_local(Mac([first, maker @ .., own0, own1, own2]): Mac) -> Ipv6Addr {
    let [maker0, maker1] = maker;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, first ^ 2, maker0, maker1, 0xff, 0xfe, own0, own1, own2])
}

/// The sets, still empty.
pub(super) fn sets(has_bridge: bool) -> impl Iterator<Item = (String, Set)> {
    let own = Family::ALL.map(|family| {
        let key = [FieldType::Link, FieldType::Mac, FieldType::Address(family)];
        ((*SENDERS.get(family)).to_owned(), Set::new(&key, &[]))
    });
    let arp = [FieldType::Mac, FieldType::Mac, FieldType::Address(Family::V4)];
    let arp = has_bridge.then(|| (BRIDGED_SENDERS.to_owned(), Set::new(&arp, &[])));
    own.into_iter().chain(arp)
}

/// The rule that every packet comes by when it arrives.
pub(super) fn arriving() -> Rule {
    let (low, high) = POD_LINKS;
    RuleBuilder::either("packets of pods").from_links_between(low, high).go_to(FROM_PODS).done()
}

/// The chains, by their names.
pub(super) fn chains(has_bridge: bool) -> Vec<(&'static str, Chain)> {
    let mut chains = vec![
        (FROM_PODS, inner_chain(from_pods())),
        (NEIGHBOURS, inner_chain(neighbours())),
        (NAMELESS, inner_chain(nameless())),
    ];
    if has_bridge {
        chains.push((BRIDGED_FRAMES, filter_chain(Hook::Prerouting, RAW, frames())));
    }
    chains
}

/// A pod that has a host port on the loopback has a link by which the kernel takes packets from and to loopback addresses
/// (`route_localnet`). Only answers may use that, and on the wire they have other addresses: whatever else would reach
/// what listens on the node's loopback (CVE-2020-8558). Packets from the loopback have no pod's address anyway.
///
/// No pod is a router, for its node or for other pods on the bridge.
fn from_pods() -> Vec<Rule> {
    let to_loopback = |family: Family| {
        let (at, bytes) = loopback_sign(family);
        let rule = RuleBuilder::either(format!("{family} packets of pods to the loopback of the node"));
        let rule = rule.as_if_address(family, Side::Destination, at, bytes).of_family(family);
        rule.address_in(Side::Destination, LOOPBACK.get(family), false).drop().done()
    };
    let own = |family: Family| {
        let rule = RuleBuilder::new(family, format!("{family} packets of pods, from their own addresses"));
        rule.sender_in(SENDERS.get(family)).accept().done()
    };
    let message = |kind, what: &str| RuleBuilder::either(what).message(kind).of_family(Family::V6);
    vec![
        to_loopback(Family::V4),
        own(Family::V4),
        to_loopback(Family::V6),
        message(ROUTER_ADVERTISEMENT, "routers that pods say they are").drop().done(),
        message(NEIGHBOUR_ADVERTISEMENT, "who has an address").jump(NEIGHBOURS).done(),
        own(Family::V6),
        from_nobody().jump(NAMELESS).done(),
        others("packets of pods from addresses of others"),
    ]
}

/// Bytes that each loopback address has, with where they begin in it, and few others.
const fn loopback_sign(family: Family) -> (u32, &'static [u8]) {
    match family {
        Family::V4 => (0, &[127]),
        Family::V6 => (12, &[0, 0, 0, 1]),
    }
}

fn from_nobody() -> RuleBuilder {
    let rule = RuleBuilder::new(Family::V6, "pods that do not use an address yet");
    rule.from_address(Ipv6Addr::UNSPECIFIED.into()).messages()
}

/// Behind it there is still to be seen who sent it.
fn neighbours() -> Vec<Rule> {
    let own = RuleBuilder::new(Family::V6, "its own").neighbour_in(SENDERS.get(Family::V6)).go_back().done();
    vec![own, others("pods that say that they have addresses of others")]
}

/// Whether its own address is somebody else's, and to which groups it listens: more a pod need not say without an address.
fn nameless() -> Vec<Rule> {
    let of = |kind, what: &str| RuleBuilder::either(what).message(kind);
    let own = of(NEIGHBOUR_SOLICITATION, "whether its address is another's").of_family(Family::V6);
    vec![
        own.neighbour_in(SENDERS.get(Family::V6)).accept().done(),
        of(LISTENER_REPORT, "to which groups it listens").accept().done(),
        others("packets of pods from no address"),
    ]
}

/// Packets are looked at as such, where the bridge hands them to IP. What is neither that nor ARP no pod needs: a receiver
/// takes the packet from a frame with an empty tag (IEEE 802.1Q), which IP has not looked at.
fn frames() -> Vec<Rule> {
    let rule = |what: &str| RuleBuilder::<Either>::either(what);
    let (low, high) = POD_LINKS;
    let arp = |what: &str| rule(what).frames(ARP).from_links_between(low, high);
    vec![
        rule("IPv4").frames(PACKETS.v4).accept().done(),
        rule("IPv6").frames(PACKETS.v6).accept().done(),
        arp("pods that say which address they have").arp_sender_in(BRIDGED_SENDERS).accept().done(),
        arp("pods that look whether somebody has their address").arp_probe_in(BRIDGED_SENDERS).accept().done(),
        rule("other frames of pods").from_links_between(low, high).count().drop().done(),
    ]
}

fn others(what: &str) -> Rule {
    RuleBuilder::either(what).count().drop().done()
}
