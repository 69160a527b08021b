//! Every transport and every attachment, in words.

use super::*;
use crate::state::Attachment;
use crate::transport::{Keys, PublicKey, Slot, Transport, Transports};

/// What a node should have but for its table, a thing a line.
fn words(desired: &Desired) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    all.extend(desired.devices.iter().map(|(name, device)| format!("link {name} {device}")));
    let port = |bridged| if bridged { " master towbr0" } else { "" };
    all.extend(desired.links.iter().map(|(name, link)| format!("link {name} mtu {}{}", link.mtu, port(link.bridged))));
    all.extend(desired.addresses.iter().map(|address| format!("address {address}")));
    all.extend(desired.neighbours.iter().map(|(neighbour, mac)| format!("neighbour {neighbour} lladdr {mac}")));
    all.extend(desired.stations.iter().map(|(station, to)| format!("fdb {station} {to:?}")));
    for (name, cipher) in &desired.ciphers {
        all.push(format!("wireguard {name} port {} key {}", cipher.port, cipher.public_key.unwrap()));
        for (key, peer) in &cipher.peers {
            let allowed = peer.allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            all.push(format!("wireguard {name} peer {key} at {} allowed {allowed}", peer.endpoint.unwrap()));
        }
    }
    let route = |(to, target): (&IpNet, &Target)| Route { destination: *to, target: *target }.to_string();
    all.extend(desired.routes.iter().map(route));
    all.extend(desired.sysctls.iter().map(|(key, value)| format!("sysctl {key} = {value}")));
    all
}

/// The two nodes n3 and n4 by one transport, seen from n3.
fn two_nodes(transport: Transport) -> NodeState {
    let specs = [3, 4].map(|n| {
        let spec = NodeSpec { transport: Transports::only(transport), ..spec(n) };
        (NodeName(format!("n{n}")), spec)
    });
    NodeState::assemble(&"n3".into(), specs.iter().map(|(name, spec)| (name, spec, Some(keys(4))))).unwrap()
}

fn keys(node: u8) -> Keys {
    let key = |slot: u8| Some(PublicKey([node * 16 + slot; 32]));
    Keys { first: key(0), second: key(1), active: Slot::Second }
}

fn rendered(state: &NodeState, leases: &[Lease]) -> Desired {
    let rendered = render(state, leases, &around(), Some(&keys(3)));
    assert_eq!(rendered.obstacles, []);
    rendered.desired
}

/// What there is by a transport, but for what is there by any.
#[track_caller]
fn assert_words(transport: Transport, expected: &[&str]) {
    let everywhere = ["blackhole 10.244.3.0/24", "blackhole fd00:244:0:3::/64", "sysctl net/ipv4/ip_forward = 1"];
    let forwards = "sysctl net/ipv6/conf/all/forwarding = 1";
    let all = words(&rendered(&two_nodes(transport), &[]));
    for line in everywhere.into_iter().chain([forwards]) {
        assert!(all.iter().any(|had| had == line), "{transport}: {line}");
    }
    let all: Vec<_> = all.into_iter().filter(|line| !everywhere.contains(&&**line) && line != forwards).collect();
    assert_eq!(all, expected, "{transport}: {all:#?}");
}

#[test]
fn direct_is_routes_alone() {
    assert_words(
        Transport::Direct,
        &["10.244.4.0/24 via 172.16.30.4 dev eth0", "fd00:244:0:4::/64 via fd00:30::4 dev eth0"],
    );
}

#[test]
fn ipip_has_a_device_for_each_family() {
    assert_words(
        Transport::Ipip,
        &[
            "link towipip4 ipip local 172.16.30.3 mtu 1480",
            "link towipip6 ip6tnl external mtu 1460",
            "address 10.244.3.0/32 dev towipip4",
            "address fd00:244:0:3::/128 dev towipip6",
            "10.244.4.0/24 via 172.16.30.4 dev towipip4 onlink",
            "fd00:244:0:4::/64 encap id 0 src fd00:30::3 dst fd00:30::4 via fe80::106a:a2ff:fedd:fe21 dev towipip6 onlink",
            "sysctl net/ipv4/conf/towipip4/rp_filter = 2",
            "sysctl net/ipv4/conf/towipip6/rp_filter = 2",
            "sysctl net/ipv6/conf/towipip4/accept_ra = 0",
            "sysctl net/ipv6/conf/towipip4/disable_ipv6 = 0",
            "sysctl net/ipv6/conf/towipip6/accept_ra = 0",
            "sysctl net/ipv6/conf/towipip6/disable_ipv6 = 0",
        ],
    );
}

#[test]
fn vxlan_has_a_device_for_each_family_and_knows_every_node_behind_it() {
    assert_words(
        Transport::Vxlan,
        &[
            "link towvxlan4 vxlan id 4096 port 4789 local 172.16.30.3 mtu 1450 address ca:6b:bd:c9:f7:16",
            "link towvxlan6 vxlan id 4096 port 4789 local fd00:30::3 mtu 1430 address ca:6b:bd:c9:f7:16",
            "address 10.244.3.0/32 dev towvxlan4",
            "address fd00:244:0:3::/128 dev towvxlan6",
            "neighbour 10.244.4.0 dev towvxlan4 lladdr 12:6a:a2:dd:fe:21",
            "neighbour fe80::106a:a2ff:fedd:fe21 dev towvxlan6 lladdr 12:6a:a2:dd:fe:21",
            "fdb 12:6a:a2:dd:fe:21 dev towvxlan4 To(172.16.30.4)",
            "fdb 12:6a:a2:dd:fe:21 dev towvxlan6 To(fd00:30::4)",
            "10.244.4.0/24 via 10.244.4.0 dev towvxlan4 onlink",
            "fd00:244:0:4::/64 via fe80::106a:a2ff:fedd:fe21 dev towvxlan6 onlink",
            "sysctl net/ipv4/conf/towvxlan4/rp_filter = 2",
            "sysctl net/ipv4/conf/towvxlan6/rp_filter = 2",
            "sysctl net/ipv6/conf/towvxlan4/accept_ra = 0",
            "sysctl net/ipv6/conf/towvxlan4/disable_ipv6 = 0",
            "sysctl net/ipv6/conf/towvxlan6/accept_ra = 0",
            "sysctl net/ipv6/conf/towvxlan6/disable_ipv6 = 0",
        ],
    );
}

#[test]
fn geneve_has_one_device_and_routes_that_say_where_to() {
    assert_words(
        Transport::Geneve,
        &[
            "link towgeneve geneve external port 6081 mtu 1430 address ca:6b:bd:c9:f7:16",
            "address 10.244.3.0/32 dev towgeneve",
            "address fd00:244:0:3::/128 dev towgeneve",
            "neighbour 10.244.4.0 dev towgeneve lladdr 12:6a:a2:dd:fe:21",
            "neighbour fe80::106a:a2ff:fedd:fe21 dev towgeneve lladdr 12:6a:a2:dd:fe:21",
            "10.244.4.0/24 encap id 4096 src 172.16.30.3 dst 172.16.30.4 via 10.244.4.0 dev towgeneve onlink",
            "fd00:244:0:4::/64 encap id 4096 src fd00:30::3 dst fd00:30::4 via fe80::106a:a2ff:fedd:fe21 dev towgeneve onlink",
            "sysctl net/ipv4/conf/towgeneve/rp_filter = 2",
            "sysctl net/ipv6/conf/towgeneve/accept_ra = 0",
            "sysctl net/ipv6/conf/towgeneve/disable_ipv6 = 0",
        ],
    );
}

#[test]
fn wireguard_has_two_devices_and_sends_by_that_which_the_other_node_wants() {
    assert_words(
        Transport::WireGuard,
        &[
            "link towwg0 wireguard mtu 1420",
            "link towwg1 wireguard mtu 1420",
            "address 10.244.3.0/32 dev towwg0",
            "address fd00:244:0:3::/128 dev towwg0",
            "address 10.244.3.0/32 dev towwg1",
            "address fd00:244:0:3::/128 dev towwg1",
            "wireguard towwg0 port 51820 key MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=",
            "wireguard towwg0 peer QEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEA= at 172.16.30.4:51820 allowed 10.244.4.0/24 172.16.30.4/32 fd00:30::4/128 fd00:244:0:4::/64",
            "wireguard towwg1 port 51821 key MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE=",
            "wireguard towwg1 peer QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE= at 172.16.30.4:51821 allowed 10.244.4.0/24 172.16.30.4/32 fd00:30::4/128 fd00:244:0:4::/64",
            "10.244.4.0/24 dev towwg1",
            "fd00:244:0:4::/64 dev towwg1",
            "sysctl net/ipv4/conf/towwg0/rp_filter = 2",
            "sysctl net/ipv4/conf/towwg1/rp_filter = 2",
            "sysctl net/ipv6/conf/towwg0/accept_ra = 0",
            "sysctl net/ipv6/conf/towwg0/disable_ipv6 = 0",
            "sysctl net/ipv6/conf/towwg1/accept_ra = 0",
            "sysctl net/ipv6/conf/towwg1/disable_ipv6 = 0",
        ],
    );
}

/// The lease of [`lease`], as a pod of this attachment has it.
fn attached(mode: Attachment) -> Lease {
    let lease = lease();
    let addresses = lease.addresses.iter().map(|leased| match (mode, leased.gateway) {
        (Attachment::LinkLocal, IpAddr::V4(_)) => {
            LeasedAddress { address: leased.host(), gateway: [169, 254, 1, 1].into() }
        }
        (Attachment::LinkLocal, IpAddr::V6(_)) => {
            LeasedAddress { address: leased.host(), gateway: "fe80::1".parse().unwrap() }
        }
        (Attachment::Routed | Attachment::Bridge, _) => leased.clone(),
    });
    Lease { mode, addresses: addresses.collect(), ..lease }
}

/// What there is for a pod, and for others that come.
fn for_pods(mode: Attachment) -> Vec<String> {
    let mut state = two_nodes(Transport::Direct);
    let without = words(&rendered(&state, &[]));
    state.spec.attachment = mode;
    let with = words(&rendered(&state, &[attached(mode)]));
    with.into_iter().filter(|line| !without.contains(line)).collect()
}

#[test]
fn a_routed_pod_has_the_gateway_on_its_link() {
    assert_eq!(
        for_pods(Attachment::Routed),
        [
            "link tow0123456789ab mtu 1500",
            "address 10.244.3.1/32 dev tow0123456789ab",
            "address fd00:244:0:3::1/128 dev tow0123456789ab",
            "address fe80::1/128 dev tow0123456789ab",
            "10.244.3.2/32 dev tow0123456789ab",
            "fd00:244:0:3::2/128 dev tow0123456789ab",
        ]
    );
}

#[test]
fn a_link_local_pod_has_a_gateway_that_the_node_answers_for() {
    assert_eq!(
        for_pods(Attachment::LinkLocal),
        [
            "link tow0123456789ab mtu 1500",
            "address fe80::1/128 dev tow0123456789ab",
            "10.244.3.2/32 dev tow0123456789ab",
            "fd00:244:0:3::2/128 dev tow0123456789ab",
            "sysctl net/ipv4/conf/tow0123456789ab/proxy_arp = 1",
        ]
    );
}

#[test]
fn a_pod_on_the_bridge_is_a_port_and_the_bridge_has_the_gateway() {
    assert_eq!(
        for_pods(Attachment::Bridge),
        [
            "link towbr0 bridge mtu 1500 address ca:6b:bd:c9:f7:16",
            "link tow0123456789ab mtu 1500 master towbr0",
            "address 10.244.3.1/24 dev towbr0",
            "address fd00:244:0:3::1/64 dev towbr0",
            "address fe80::1/128 dev towbr0",
            "neighbour 10.244.3.2 dev towbr0 lladdr 3e:4d:2a:d0:90:4e",
            "neighbour fd00:244:0:3::2 dev towbr0 lladdr 3e:4d:2a:d0:90:4e",
            "fdb 3e:4d:2a:d0:90:4e dev tow0123456789ab Port",
            "10.244.3.0/24 dev towbr0",
            "fd00:244:0:3::/64 dev towbr0",
            "sysctl net/ipv4/conf/towbr0/proxy_arp = 1",
            "sysctl net/ipv4/conf/towbr0/route_localnet = 0",
            "sysctl net/ipv6/conf/towbr0/accept_ra = 0",
            "sysctl net/ipv6/conf/towbr0/disable_ipv6 = 0",
            "sysctl net/ipv6/conf/towbr0/proxy_ndp = 1",
        ]
    );
}

#[test]
fn how_pods_join_their_node_and_how_nodes_reach_each_other_have_nothing_to_do_with_one_another() {
    for transport in Transport::ALL {
        for mode in [Attachment::Routed, Attachment::LinkLocal, Attachment::Bridge] {
            let mut state = two_nodes(transport);
            let between = words(&rendered(&state, &[]));
            state.spec.attachment = mode;
            // The bridge takes the place of what kept the node's own range to itself, and its MTU is that of pods.
            let differs = |line: &String| {
                mode == Attachment::Bridge && (line.contains("blackhole") || line.starts_with("link towbr0"))
            };
            let sorted = |lines: Vec<String>| lines.into_iter().filter(|line| !differs(line)).collect::<BTreeSet<_>>();
            let expected = sorted(for_pods(mode).into_iter().chain(between).collect());
            assert_eq!(sorted(words(&rendered(&state, &[attached(mode)]))), expected, "{transport} {mode}");
        }
    }
}

#[test]
fn a_node_with_addresses_of_one_family_carries_the_other_where_the_transport_can() {
    for (transport, carries) in
        [(Transport::Direct, false), (Transport::Ipip, false), (Transport::Vxlan, true), (Transport::Geneve, true)]
    {
        let mut state = two_nodes(transport);
        state.spec.addresses.truncate(1);
        let rendered = render(&state, &[], &around(), None);
        let there = rendered.desired.routes.contains_key(&"fd00:244:0:4::/64".parse().unwrap());
        assert_eq!(there, carries, "{transport}");
        // Plain routes need no address of this node.
        let told = rendered.obstacles.contains(&Obstacle::NoAddress { family: Family::V6 });
        assert_eq!(told, !carries, "{transport}: {:?}", rendered.obstacles);
    }
}

#[test]
fn a_node_takes_packets_of_the_transport_of_others_and_keeps_to_its_own() {
    let mut state = two_nodes(Transport::Vxlan);
    state.spec.transport.prefers = vec![Transport::Ipip, Transport::Vxlan];
    state.spec.transport.accepts = vec![Transport::Vxlan, Transport::Ipip, Transport::Geneve];
    let desired = rendered(&state, &[]);
    let devices: Vec<_> = desired.devices.keys().map(String::as_str).collect();
    assert_eq!(devices, ["towgeneve", "towipip4", "towipip6", "towvxlan4", "towvxlan6"]);
    assert!(desired.routes.values().filter_map(Target::nexthop).all(|way| way.link.starts_with("towvxlan")));
    state.peers.get_mut("n4").unwrap().accepts = vec![Transport::Geneve];
    let told = render(&state, &[], &around(), None).obstacles;
    assert_eq!(told, [Obstacle::NoCommonTransport { peer: "n4".into() }]);
}

#[test]
fn neighbours_are_reached_without_the_tunnel_where_that_is_wanted() {
    let mut state = two_nodes(Transport::Vxlan);
    state.spec.transport.cross_subnet_only = true;
    state.spec.transport.accepts.push(Transport::Direct);
    let peer = state.peers.get_mut("n4").unwrap();
    peer.accepts.push(Transport::Direct);
    peer.addresses[1] = "fd00:31::4".parse().unwrap();
    let desired = rendered(&state, &[]);
    let link = |net: &str| desired.routes[&net.parse::<IpNet>().unwrap()].link().unwrap().to_owned();
    assert_eq!((link("10.244.4.0/24").as_str(), link("fd00:244:0:4::/64").as_str()), ("eth0", "towvxlan6"));
}

#[test]
fn what_must_be_encrypted_goes_nowhere_without_keys() {
    let mut state = two_nodes(Transport::WireGuard);
    state.spec.pod_ranges = vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/48".parse().unwrap()];
    let ways = |state: &NodeState, keys: Option<&Keys>| {
        let rendered = render(state, &[], &around(), keys);
        (rendered.desired.routes.into_values().collect::<Vec<_>>(), rendered.obstacles)
    };
    let blackholes = vec![Target::Blackhole; 6];
    assert_eq!(ways(&state, None), (blackholes.clone(), vec![Obstacle::NoKey]));
    let told = |keys: Option<Keys>| {
        let mut state = state.clone();
        state.peers.get_mut("n4").unwrap().keys = keys;
        state
    };
    let missing = || vec![Obstacle::PeerWithoutKey { peer: "n4".into() }];
    assert_eq!(ways(&told(None), Some(&keys(3))), (blackholes.clone(), missing()));
    let other = Keys { first: None, second: None, ..keys(4) };
    assert_eq!(ways(&told(Some(other)), Some(&keys(3))), (blackholes.clone(), missing()));
    state.peers.get_mut("n4").unwrap().accepts = vec![Transport::Vxlan];
    let told = vec![Obstacle::NoCommonTransport { peer: "n4".into() }];
    assert_eq!(ways(&state, Some(&keys(3))), (blackholes, told));
}

#[test]
fn the_mtu_is_that_of_the_least_uplink_less_the_most_that_is_added() {
    let mut around = around();
    let mtu = |state: &NodeState, around: &Surroundings| render(state, &[], around, None).mtu;
    let of = |transport, around: &Surroundings| mtu(&two_nodes(transport), around);
    let all = Transport::ALL.map(|transport| of(transport, &around));
    assert_eq!(all, [1500, 1460, 1430, 1430, 1420].map(Some));
    let mut single = two_nodes(Transport::Vxlan);
    single.spec.pod_cidrs.truncate(1);
    assert_eq!(mtu(&single, &around), Some(1450), "the other family's address is not travelled by");
    single.spec.mtu = Mtu::Bytes(1300);
    assert_eq!(mtu(&single, &around), Some(1300));
    around.subnets = around.subnets.into_iter().map(|subnet| Subnet { mtu: 1300, ..subnet }).collect();
    assert_eq!(of(Transport::Geneve, &around), Some(1230));
    let told = render(&two_nodes(Transport::Geneve), &[], &around, None).obstacles;
    assert_eq!(told, [Obstacle::MtuBelowIpv6 { mtu: 1230 }]);
    let devices = render(&two_nodes(Transport::Vxlan), &[], &around, None).desired.devices;
    assert_eq!((devices["towvxlan4"].mtu, devices["towvxlan6"].mtu), (1250, 1230));
    let nowhere = render(&two_nodes(Transport::Vxlan), &[], &Surroundings::default(), None);
    assert_eq!((nowhere.mtu, nowhere.desired.devices["towvxlan4"].mtu), (None, 1430));
}

#[test]
fn the_bridge_carries_no_more_than_its_least_pod() {
    let mut state = two_nodes(Transport::Vxlan);
    state.spec.attachment = Attachment::Bridge;
    let mtu = |leases: &[Lease]| rendered(&state, leases).devices["towbr0"].mtu;
    assert_eq!(mtu(&[]), 1430);
    assert_eq!(mtu(&[Lease { mtu: 1400, ..attached(Attachment::Bridge) }]), 1400);
    assert_eq!(mtu(&[Lease { mtu: 9000, ..attached(Attachment::Bridge) }]), 1430);
}

#[test]
fn nodes_see_the_address_of_a_pod_where_no_tunnel_leads_to_them() {
    let near = |state: &NodeState| {
        let sets = render(state, &[], &around(), None).desired.table.unwrap().sets;
        (sets["near-v4"].elements.len(), sets["nodes-v4"].elements.len())
    };
    assert_eq!(near(&two_nodes(Transport::Direct)), (2, 2));
    let mut state = two_nodes(Transport::Vxlan);
    assert_eq!(near(&state), (1, 2));
    state.spec.transport.cross_subnet_only = true;
    state.peers.get_mut("n4").unwrap().accepts.push(Transport::Direct);
    assert_eq!(near(&state), (2, 2));
}

#[test]
fn networks_of_other_nodes_are_single_keys_unless_they_lie_in_a_range_that_is_declared() {
    let sets = |ranges: &[&str]| {
        let mut state = two_nodes(Transport::Vxlan);
        state.spec.pod_ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        let sets = render(&state, &[], &around(), None).desired.table.unwrap().sets;
        let of_cluster = sets.into_iter().filter(|(name, _)| name.starts_with("cluster-"));
        of_cluster.map(|(name, set)| (name, set.interval, set.elements.len())).collect::<Vec<_>>()
    };
    let set = |name: &str, interval, elements| (name.to_owned(), interval, elements);
    let ranges = [set("cluster-v4", true, 3), set("cluster-v6", true, 2)];
    let [v4, v6] = ranges.clone();
    assert_eq!(sets(&[]), [v4, set("cluster-v4-24", false, 1), v6, set("cluster-v6-64", false, 1)]);
    assert_eq!(sets(&["10.244.0.0/16", "fd00:244::/48"]), ranges);
}
