mod properties;
mod transports;
mod uplinks;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::*;
use crate::family::Family;
use crate::lease::{HostPort, LeasedAddress, Phase, Protocol};
use crate::nft::{Element, Value};
use crate::observed::{Link, Observed, Route};
use crate::plan::plan;
use crate::state::{Attachment, Masquerade, MasqueradeMode, Mtu, NodeName, NodeSpec, Revision};

fn spec(number: u8) -> NodeSpec {
    let addresses = ["172.16.30.N", "fd00:30::N"].map(|text| text.replace('N', &number.to_string()).parse().unwrap());
    let pod_cidrs =
        ["10.244.N.0/24", "fd00:244:0:N::/64"].map(|text| text.replace('N', &number.to_string()).parse().unwrap());
    NodeSpec {
        revision: Revision("7f3a91c".to_owned()),
        masquerade: Masquerade {
            mode: MasqueradeMode::LeavingCluster,
            excluded: vec!["192.168.0.0/16".parse().unwrap()],
        },
        ..NodeSpec::plain(addresses.into(), pod_cidrs.into())
    }
}

fn three_nodes() -> NodeState {
    let specs: Vec<(NodeName, NodeSpec)> = [3, 4, 5].map(|n| (NodeName(format!("n{n}")), spec(n))).into();
    NodeState::assemble(&NodeName::from("n3"), specs.iter().map(|(name, spec)| (name, spec, None))).unwrap()
}

fn around() -> Surroundings {
    let subnets = ["172.16.30.3/24", "fd00:30::3/64"].map(|address| Subnet {
        link: "eth0".to_owned(),
        address: address.parse().unwrap(),
        mtu: 1500,
    });
    Surroundings { subnets: BTreeSet::from(subnets) }
}

fn lease() -> Lease {
    Lease {
        network: "towpath".to_owned(),
        container_id: "5b1f".to_owned(),
        interface: "eth0".to_owned(),
        netns: "/var/run/netns/cni-1".to_owned(),
        host_interface: "tow0123456789ab".to_owned(),
        phase: Phase::Ready,
        mode: Attachment::Routed,
        addresses: vec![
            LeasedAddress { address: "10.244.3.2/24".parse().unwrap(), gateway: "10.244.3.1".parse().unwrap() },
            LeasedAddress {
                address: "fd00:244:0:3::2/64".parse().unwrap(),
                gateway: "fd00:244:0:3::1".parse().unwrap(),
            },
        ],
        mtu: 1500,
        mac: None,
        host_ports: vec![HostPort { host_ip: None, host_port: 8080, container_port: 80, protocol: Protocol::Tcp }],
        loopback_ports: Vec::new(),
        bandwidth: None,
        pod: None,
    }
}

fn routes(rendered: &Rendered) -> Vec<String> {
    let all = rendered.desired.routes.iter();
    all.map(|(to, target)| Route { destination: *to, target: *target }.to_string()).collect()
}

#[test]
fn a_node_gets_a_route_to_each_peer_and_keeps_its_own_range_to_itself() {
    let rendered = render(&three_nodes(), &[], &around(), None);
    assert_eq!(rendered.obstacles, []);
    assert_eq!(rendered.mtu, Some(1500));
    assert_eq!(
        routes(&rendered),
        [
            "blackhole 10.244.3.0/24",
            "10.244.4.0/24 via 172.16.30.4 dev eth0",
            "10.244.5.0/24 via 172.16.30.5 dev eth0",
            "blackhole fd00:244:0:3::/64",
            "fd00:244:0:4::/64 via fd00:30::4 dev eth0",
            "fd00:244:0:5::/64 via fd00:30::5 dev eth0",
        ]
    );
}

#[test]
fn a_ready_pod_has_its_link_gateway_route_and_host_port() {
    let rendered = render(&three_nodes(), &[lease()], &around(), None);
    let link = "tow0123456789ab";
    assert_eq!(rendered.desired.links[link], Link { up: true, mtu: 1500, bridged: false });
    let addresses: Vec<String> = rendered.desired.addresses.iter().map(ToString::to_string).collect();
    let expected = ["10.244.3.1/32", "fd00:244:0:3::1/128", "fe80::1/128"].map(|a| format!("{a} dev {link}"));
    assert_eq!(addresses, expected);
    assert!(routes(&rendered).contains(&format!("10.244.3.2/32 dev {link}")));
    let element = Element::Key {
        key: vec![Value::Protocol(Protocol::Tcp), Value::Port(8080)],
        data: vec![Value::Address("10.244.3.2".parse().unwrap()), Value::Port(80)],
    };
    assert!(rendered.desired.table.unwrap().sets["hostports-v4"].elements.contains(&element));
}

#[test]
fn a_pod_that_is_joining_or_leaving_is_left_to_the_cni_binary() {
    for phase in [Phase::Joining, Phase::Leaving] {
        let rendered = render(&three_nodes(), &[Lease { phase, ..lease() }], &around(), None);
        let tolerated = rendered.desired.tolerated.iter().map(|(set, _)| set.as_str()).collect::<Vec<_>>();
        assert_eq!(
            tolerated,
            ["hairpin-v4", "hairpin-v6", "hostports-v4", "hostports-v6", "senders-v4", "senders-v6", "senders-v6"]
        );
        let mut without = render(&three_nodes(), &[], &around(), None);
        without.desired.tolerated = rendered.desired.tolerated.clone();
        assert_eq!(rendered, without);
    }
}

#[test]
fn a_peer_behind_a_router_is_an_obstacle_and_the_others_are_reached() {
    let mut state = three_nodes();
    state.peers.get_mut("n5").unwrap().addresses = vec!["172.16.31.5".parse().unwrap()];
    let rendered = render(&state, &[], &around(), None);
    assert_eq!(
        rendered.obstacles,
        [
            Obstacle::PeerNotOnLink { peer: "n5".into(), address: "172.16.31.5".parse().unwrap() },
            Obstacle::PeerWithoutAddress { peer: "n5".into(), family: Family::V6 },
        ]
    );
    assert!(routes(&rendered).contains(&"10.244.4.0/24 via 172.16.30.4 dev eth0".to_owned()));
}

#[test]
fn an_mtu_above_the_uplink_is_an_obstacle() {
    let mut state = three_nodes();
    state.spec.mtu = Mtu::Bytes(9000);
    let rendered = render(&state, &[], &around(), None);
    assert_eq!(rendered.obstacles, [Obstacle::MtuAboveUplink { mtu: 9000, uplink: 1500 }]);
    assert_eq!(rendered.mtu, Some(1500), "no pod gets what the uplink does not carry");
}

#[test]
fn a_foreign_route_in_the_way_is_reported_and_left_alone() {
    let desired = render(&three_nodes(), &[], &around(), None).desired;
    let taken: IpNet = "10.244.4.0/24".parse().unwrap();
    let observed = Observed { foreign_routes: BTreeSet::from([taken]), ..Observed::default() };
    let plan = plan(&desired, &observed);
    assert_eq!(plan.conflicts, [taken]);
    assert!(plan.ops.iter().all(|op| op.object() != "route 10.244.4.0/24"));
}

#[test]
fn a_pod_of_a_range_that_the_node_lost_stays_attached_and_is_told_of() {
    let mut state = three_nodes();
    state.spec.pod_cidrs = vec!["10.244.9.0/24".parse().unwrap(), "fd00:244:0:3::/64".parse().unwrap()];
    let rendered = render(&state, &[lease()], &around(), None);
    let told = Obstacle::Withdrawn { cidr: "10.244.3.0/24".parse().unwrap(), pods: 1 };
    assert_eq!(rendered.obstacles, [told]);
    assert!(routes(&rendered).contains(&"10.244.3.2/32 dev tow0123456789ab".to_owned()), "{:?}", routes(&rendered));
}
