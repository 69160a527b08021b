//! Nodes with several uplinks.

use super::*;
use crate::transport::{Transport, Transports};

/// The node's own, and a second one of this MTU.
fn with_second(mtu: u32) -> Surroundings {
    let second = ["10.9.0.3/24", "fd00:9::3/64"].map(|address| Subnet {
        link: "eth1".to_owned(),
        address: address.parse().unwrap(),
        mtu,
    });
    Surroundings { subnets: around().subnets.into_iter().chain(second).collect() }
}

#[test]
fn an_uplink_limits_packets_that_leads_to_another_node_and_no_other_does() {
    let mtu = |state: &NodeState, mtu| render(state, &[], &with_second(mtu), None).mtu;
    for transport in [Transport::Direct, Transport::Vxlan] {
        let mut state = three_nodes();
        state.spec.transport = Transports::only(transport);
        let usual = 1500 - transport.overhead(Family::V6);
        assert_eq!(mtu(&state, 1400), Some(usual), "nobody is there");
        let peer = state.peers.get_mut("n5").unwrap();
        peer.addresses = ["10.9.0.5", "fd00:9::5"].map(|address| address.parse().unwrap()).into();
        assert_eq!(mtu(&state, 1400), Some(usual - 100));
        assert_eq!(mtu(&state, 9000), Some(usual), "others are behind the first");
    }
}
