//! Random alterations of everything that a node has, each healed by one look and one plan, on the real kernel.
//!
//! `TOWPATH_ALTERATIONS` says how many, `TOWPATH_SEED` in which order; both are printed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::{Kernel, converge, sysctls_of};
use towpath_kernel::sysctl::{ROOT, Sysctls};
use towpath_kernel::testing::{isolated, run};
use towpath_net::Family;
use towpath_net::device::{Device, DeviceKind};
use towpath_net::mac::Mac;
use towpath_net::observed::{
    Address, Desired, Forwarding, Link, Neighbour, Nexthop, NexthopId, Station, Sysctl, Target,
};

const ALTERATIONS: u64 = 200;
const SEED: u64 = 117;
const POD: &str = "tow000000000000";
const PEERS: std::ops::Range<u8> = 4..9;
const DEADLINE: Duration = Duration::from_secs(60);

/// Altered by hand; each line is what somebody might type. `#` stands for the number of a peer, `%` for another one, and
/// `@` for the number of the nexthop object of the first.
const LINES: [&str; 52] = [
    "ip link set towbr0 down",
    "ip link set towbr0 mtu 1300",
    "ip link set towbr0 address 02:00:00:00:00:99",
    "ip link set towbr0 type bridge stp_state 1",
    "ip link set towbr0 type bridge mcast_snooping 1",
    "ip link set towbr0 type bridge nf_call_ip6tables 0",
    "ip link delete towbr0",
    "ip link set towvxlan4 down",
    "ip link set towvxlan4 mtu 1300",
    "ip link set towvxlan4 mtu 1000",
    "ip link set towvxlan4 address 02:00:00:00:00:99",
    "ip link set towvxlan4 type vxlan learning",
    "ip link delete towvxlan4",
    "ip link set tow000000000000 down",
    "ip link set tow000000000000 mtu 1300",
    "ip link set tow000000000000 nomaster",
    "ip link set tow000000000000 master other",
    "bridge link set dev tow000000000000 hairpin off",
    "bridge link set dev tow000000000000 learning on",
    "bridge link set dev tow000000000000 flood on",
    "bridge link set dev tow000000000000 locked off",
    "ip address delete 10.244.3.0/32 dev towvxlan4",
    "ip address delete 10.244.3.1/24 dev towbr0",
    "ip -6 address delete fd00:244:0:3::/128 dev towvxlan4",
    "ip address add 10.9.9.#/32 dev towvxlan4",
    "ip address add 10.9.9.#/32 dev tow000000000000",
    "ip route delete 10.244.#.0/24",
    "ip -6 route delete fd00:244:0:#::/64",
    "ip route replace 10.244.#.0/24 via 172.16.30.% proto 117",
    "ip -6 route replace fd00:244:0:#::/64 via fd00:30::% proto 117",
    "ip route replace blackhole 10.244.#.0/24 proto 117",
    "ip route append 10.244.#.0/24 via 172.16.30.% proto 117",
    "ip route add 10.99.#.0/24 via 172.16.30.% proto 117",
    "ip route add 10.98.#.0/24 nhid @ proto 117",
    "ip nexthop flush proto 117",
    "ip nexthop delete id @",
    "ip nexthop replace id @ via 172.16.30.% dev eth0 proto 117",
    "ip nexthop replace id @ via 172.16.30.% dev eth0",
    "ip nexthop replace id @ blackhole proto 117",
    "ip nexthop add id 4000000000 via 172.16.30.% dev eth0 proto 117",
    "ip neighbour delete 10.244.#.0 dev towvxlan4",
    "ip neighbour change 10.244.#.0 lladdr 02:00:00:00:00:99 dev towvxlan4 nud permanent",
    "ip neighbour change 10.244.#.0 lladdr 02:00:00:00:00:99 dev towvxlan4 nud stale",
    "ip neighbour add 10.250.#.0 lladdr 02:00:00:00:00:99 dev towvxlan4 nud permanent",
    "ip neighbour add fe80::9# lladdr 02:00:00:00:00:99 dev towvxlan4 nud permanent",
    "bridge fdb delete 02:00:00:00:00:0# dev towvxlan4 self",
    "bridge fdb replace 02:00:00:00:00:0# dev towvxlan4 dst 172.16.30.% self permanent",
    "bridge fdb append 00:00:00:00:00:00 dev towvxlan4 dst 172.16.30.% self permanent",
    "bridge fdb delete 02:00:00:00:00:aa dev tow000000000000 master",
    "bridge fdb add 02:00:00:00:00:b# dev tow000000000000 master static",
    "sysctl -q -w net.ipv4.ip_forward=0",
    "sysctl -q -w net.ipv4.conf.towvxlan4.rp_filter=1",
];

/// What belongs to somebody else, as it is before and after.
const FOREIGN: [&str; 6] = [
    "ip route show proto static",
    "ip nexthop show id 7",
    "ip neighbour show dev foreign nud permanent",
    "ip -o link show foreign",
    "ip -o address show dev eth0",
    "ip -o address show dev foreign",
];

/// Numbers that look random, the same for the same seed (Marsaglia's xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn line(&mut self) -> String {
        let many = u64::try_from(LINES.len()).unwrap();
        let line = LINES[usize::try_from(self.below(many)).unwrap()];
        let first = u64::from(PEERS.start);
        let peer = first + self.below(4);
        let other = if peer == first { first + 1 } else { first };
        let id = u64::from(NexthopId::FIRST) + peer;
        line.replace('#', &peer.to_string()).replace('%', &other.to_string()).replace('@', &id.to_string())
    }
}

fn link(name: &str, kind: DeviceKind, last: u8) -> (String, Device) {
    (name.to_owned(), Device { kind, mac: Some(Mac([2, 0, 0, 0, 1, last])), mtu: 1450, up: true })
}

fn way(peer: u8, gateway: &str) -> Target {
    let family = if gateway.contains(':') { 100 } else { 0 };
    let (link, gateway) = ("towvxlan4".into(), gateway.parse().unwrap());
    let id = NexthopId(NexthopId::FIRST + u32::from(peer) + family);
    Target::Via(Nexthop { id, gateway, link, on_link: true, encapsulation: None })
}

fn desired() -> Desired {
    let tunnel = || "towvxlan4".to_owned();
    let vxlan = DeviceKind::Vxlan { vni: 4096, port: 4789, local: IpAddr::from([172, 16, 30, 3]) };
    let address = |link: &str, text: &str| Address { link: link.into(), address: text.parse().unwrap() };
    let mut desired = Desired {
        devices: BTreeMap::from([link("towbr0", DeviceKind::Bridge, 1), link("towvxlan4", vxlan, 2)]),
        links: BTreeMap::from([(POD.to_owned(), Link { up: true, mtu: 1450, bridged: true })]),
        addresses: BTreeSet::from([
            address("towbr0", "10.244.3.1/24"),
            address("towvxlan4", "10.244.3.0/32"),
            address("towvxlan4", "fd00:244:0:3::/128"),
        ]),
        sysctls: BTreeMap::from([
            (Sysctl("net/ipv4/ip_forward".to_owned()), "1".to_owned()),
            (Sysctl("net/ipv6/conf/all/forwarding".to_owned()), "1".to_owned()),
            (Sysctl::of_link(Family::V4, "towvxlan4", "rp_filter"), "2".to_owned()),
            (Sysctl::of_link(Family::V6, "towvxlan4", "accept_ra"), "0".to_owned()),
        ]),
        ..Desired::default()
    };
    let pod = Station { link: POD.into(), mac: Mac([2, 0, 0, 0, 0, 0xaa]) };
    desired.stations.insert(pod, Forwarding::Port);
    desired.routes.insert("10.244.3.0/24".parse().unwrap(), Target::Link { link: "towbr0".into() });
    for peer in PEERS {
        let mac = Mac([2, 0, 0, 0, 0, peer]);
        desired
            .stations
            .insert(Station { link: tunnel().as_str().into(), mac }, Forwarding::To([172, 16, 30, peer].into()));
        let gateways = [format!("10.244.{peer}.0"), format!("fe80::{peer}")];
        for gateway in &gateways {
            desired
                .neighbours
                .insert(Neighbour { link: tunnel().as_str().into(), address: gateway.parse().unwrap() }, mac);
        }
        let [v4, v6] = gateways;
        desired.routes.insert(format!("10.244.{peer}.0/24").parse().unwrap(), way(peer, &v4));
        desired.routes.insert(format!("fd00:244:0:{peer}::/64").parse().unwrap(), way(peer, &v6));
    }
    desired
}

fn surround() {
    run("ip link add eth0 type veth peer name wire");
    run(&format!("ip link add {POD} type veth peer name pod0"));
    run("ip address add 172.16.30.3/24 dev eth0");
    run("ip address add fd00:30::3/64 dev eth0 nodad");
    run("ip link add foreign type veth peer name beyond");
    run("ip link add other type bridge");
    for link in ["eth0", "wire", "pod0", "foreign", "beyond"] {
        run(&format!("ip link set {link} up"));
    }
    let end = Instant::now() + DEADLINE;
    let settled = |link: &str| {
        let (addresses, state) = (run(&format!("ip address show dev {link}")), run(&format!("ip link show {link}")));
        addresses.contains("inet6") && !addresses.contains("tentative") && state.contains("state UP")
    };
    while !settled("eth0") || !settled("foreign") {
        assert!(Instant::now() < end, "links do not settle: {}", run("ip address"));
        std::thread::yield_now();
    }
    run("ip nexthop add id 7 via 172.16.30.9 dev eth0");
    run("ip route add 10.50.0.0/16 nhid 7 proto static");
    run("ip neighbour add 10.60.0.1 lladdr 02:00:00:00:00:60 dev foreign nud permanent");
}

#[test]
fn every_alteration_is_healed_by_one_look_and_one_plan() {
    isolated("every_alteration_is_healed_by_one_look_and_one_plan", || {
        let number = |name, otherwise| env::var(name).map_or(otherwise, |text| text.parse().unwrap());
        let (many, seed) = (number("TOWPATH_ALTERATIONS", ALTERATIONS), number("TOWPATH_SEED", SEED));
        println!("{many} alterations with seed {seed}");
        surround();
        let foreign = FOREIGN.map(run);
        let (mut kernel, desired) = (HostKernel::open(Sysctls::below(ROOT)).unwrap(), desired());
        let mut heal = |because: &str| {
            let now = kernel.observe(&sysctls_of(&desired)).unwrap();
            let report = converge(&mut kernel, &desired, &now);
            assert!(report.failed.is_empty() && report.conflicts.is_empty(), "{because}: {report:?}");
            report.done
        };
        heal("nothing is there");
        assert_eq!(heal("all is there"), []);
        let mut dice = Dice(seed);
        for n in 0..many {
            let line = dice.line();
            run(&line);
            assert_ne!(heal(&line), [], "{n}: not seen: {line}");
            assert_eq!(heal(&line), [], "{n}: not healed at once: {line}");
        }
        assert_eq!(FOREIGN.map(run), foreign);
    });
}
