//! Bundles as they are compiled from what people write.

use std::collections::BTreeMap;
use std::net::IpAddr;

use towpath_net::Family;
use towpath_net::lease::Protocol;
use towpath_net::policy::bind::Leases;
use towpath_net::policy::bundle::{
    AddressPort, Allow, Bundle, Direction, Isolation, Members, Ordered, Peers, PodPolicy, Ports, Profile, ProfileId,
    SetId,
};
use towpath_net::policy::input::{Action, Key};
use towpath_net::ranges::merge;

/// A bundle and the leases of its pods, put together step by step.
#[derive(Clone, Default)]
pub struct Case {
    pub bundle: Bundle,
    pub leases: Leases,
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn tcp(port: u16) -> Ports {
    Ports::Range(Protocol::Tcp, port, port)
}

pub fn udp(port: u16) -> Ports {
    Ports::Range(Protocol::Udp, port, port)
}

pub fn from_sets(sets: &[u64]) -> Peers {
    Peers::In(sets.iter().map(|set| SetId(*set)).collect())
}

pub fn allow(ports: Ports, peers: Peers) -> Allow {
    Allow { ports, peers }
}

pub fn isolated(policies: &[&str], allows: Vec<Allow>) -> Direction {
    let key = |text: &&str| {
        let (namespace, name) = text.split_once('/').unwrap();
        Key { namespace: namespace.into(), name: name.into() }
    };
    Direction {
        isolated: Some(Isolation { policies: policies.iter().map(key).collect(), allows }),
        ..Direction::default()
    }
}

pub fn ordered(policy: &str, action: Action, ports: &[Ports], peers: Peers) -> Ordered {
    Ordered { policy: policy.into(), action, ports: ports.to_vec(), peers }
}

impl Case {
    /// Policies are in force; there are no pods.
    pub fn enforced() -> Self {
        let mut case = Self::default();
        case.bundle.is_enforced = true;
        case
    }

    /// A pod with a profile and these addresses.
    pub fn pod(mut self, name: &str, profile: Option<u64>, addresses: &[&str]) -> Self {
        let key = Key { namespace: "web".into(), name: name.into() };
        let pod = PodPolicy { key, profile: profile.map(ProfileId), is_policed: true };
        self.bundle.pods.insert(name.into(), pod);
        self.leases.insert(name.into(), addresses.iter().map(|text| address(text)).collect());
        self
    }

    pub fn profile(mut self, id: u64, ingress: Direction, egress: Direction) -> Self {
        self.bundle.profiles.insert(ProfileId(id), Profile { ingress, egress });
        self
    }

    /// The same with other numbers of profiles: what says something else has another number.
    pub fn renumbered(mut self, by: usize) -> Self {
        let number = |id: ProfileId| ProfileId(id.0 ^ u64::try_from(by).unwrap());
        self.bundle.profiles = self.bundle.profiles.into_iter().map(|(id, profile)| (number(id), profile)).collect();
        self.bundle.pods.values_mut().for_each(|pod| pod.profile = pod.profile.map(number));
        self
    }

    pub fn set(mut self, id: u64, members: &[&str]) -> Self {
        self.bundle.sets.insert(SetId(id), Members::Addresses(members.iter().map(|text| address(text)).collect()));
        self
    }

    pub fn ports(mut self, id: u64, members: &[(&str, Protocol, u16)]) -> Self {
        let member = |(text, protocol, port): &(&str, Protocol, u16)| AddressPort {
            address: address(text),
            protocol: *protocol,
            port: *port,
        };
        self.bundle.sets.insert(SetId(id), Members::Ports(members.iter().map(member).collect()));
        self
    }

    pub fn blocks(mut self, id: u64, nets: &[&str]) -> Self {
        let nets: Vec<ipnet::IpNet> = nets.iter().map(|text| text.parse().unwrap()).collect();
        let ranges = Family::ALL.into_iter().flat_map(|family| merge(family, &nets)).collect();
        self.bundle.sets.insert(SetId(id), Members::Ranges(ranges));
        self
    }
}

const FRONTEND: u64 = 0xf207_7e4d_0000_0001;
const DNS: u64 = 0xd45d_45d4_0000_0002;
const ADMINS: u64 = 0xad31_45ad_0000_0003;
const BLOCKS: u64 = 0xb10c_5b10_0000_0004;
const METADATA: u64 = 0x3e7a_da7a_0000_0006;
const NAMED: u64 = 0x9a3e_d9a3_0000_0005;
const PROFILE: u64 = 0x0123_4567_89ab_cdef;
const OTHER: u64 = 0xfedc_ba98_7654_3210;

/// What people review: each with a file of its name in `golden`.
pub fn representative() -> BTreeMap<&'static str, Case> {
    let one = || Case::enforced().set(FRONTEND, &["10.0.1.5", "10.0.2.7"]).set(DNS, &["10.0.9.53"]);
    [
        (
            "no-policy-selects-a-pod",
            Case::enforced().pod("a", None, &["10.0.0.2", "fd00::2"]).pod("b", None, &["10.0.0.3"]),
        ),
        ("default-deny", default_deny()),
        ("frontend-and-dns", one().pod("a", Some(PROFILE), &["10.0.0.2"]).profile(PROFILE, frontend(), dns())),
        ("two-pods-of-one-profile", {
            let case = one().pod("a", Some(PROFILE), &["10.0.0.2"]).pod("b", Some(PROFILE), &["10.0.0.3"]);
            case.pod("c", Some(OTHER), &["10.0.0.4"]).profile(PROFILE, many_ports(), Direction::default()).profile(
                OTHER,
                many_ports(),
                Direction::default(),
            )
        }),
        ("both-families", {
            let case = Case::enforced().set(FRONTEND, &["10.0.1.5", "fd00:0:0:1::5"]).set(DNS, &["fd00:0:0:9::53"]);
            case.pod("a", Some(PROFILE), &["10.0.0.2", "fd00::2"]).profile(PROFILE, frontend(), dns())
        }),
        ("tiers", tiers()),
        ("blocks-and-ranges", blocks_and_ranges()),
        ("named-ports", named_ports()),
    ]
    .into()
}

fn default_deny() -> Case {
    let deny = || isolated(&["web/default-deny"], Vec::new());
    Case::enforced().pod("a", Some(PROFILE), &["10.0.0.2"]).pod("b", None, &["10.0.0.3"]).profile(
        PROFILE,
        deny(),
        deny(),
    )
}

fn frontend() -> Direction {
    isolated(&["web/allow-frontend", "web/default-deny"], vec![allow(tcp(80), from_sets(&[FRONTEND]))])
}

fn dns() -> Direction {
    let to_dns = |ports| allow(ports, from_sets(&[DNS]));
    isolated(&["web/allow-dns"], vec![to_dns(tcp(53)), to_dns(udp(53))])
}

fn many_ports() -> Direction {
    let allows = vec![
        allow(tcp(80), from_sets(&[FRONTEND])),
        allow(tcp(443), from_sets(&[FRONTEND])),
        allow(tcp(9090), from_sets(&[FRONTEND, DNS])),
        allow(udp(53), Peers::Anyone),
        allow(Ports::Any, from_sets(&[DNS])),
    ];
    isolated(&["web/many-ports"], allows)
}

fn tiers() -> Case {
    let everything = || from_sets(&[ADMINS]);
    let ingress = Direction {
        admin: vec![
            ordered("monitoring", Action::Accept, &[tcp(9100)], everything()),
            ordered("leave-to-namespaces", Action::Pass, &[tcp(80), tcp(443)], Peers::Anyone),
            ordered("no-ssh", Action::Deny, &[tcp(22)], Peers::Anyone),
        ],
        ..frontend()
    };
    let egress = Direction {
        admin: vec![ordered("no-metadata", Action::Deny, &[Ports::Any], from_sets(&[METADATA]))],
        baseline: vec![
            ordered("inside-only", Action::Accept, &[Ports::Any], from_sets(&[FRONTEND])),
            ordered("inside-only", Action::Deny, &[Ports::Any], Peers::Anyone),
        ],
        ..Direction::default()
    };
    Case::enforced()
        .pod("a", Some(PROFILE), &["10.0.0.2"])
        .profile(PROFILE, ingress, egress)
        .set(FRONTEND, &["10.0.1.5"])
        .set(ADMINS, &["10.0.7.7"])
        .blocks(METADATA, &["169.254.169.254/32"])
}

fn blocks_and_ranges() -> Case {
    let ingress = isolated(
        &["web/offices"],
        vec![
            allow(Ports::Range(Protocol::Tcp, 8000, 8100), from_sets(&[BLOCKS])),
            allow(Ports::All(Protocol::Udp), from_sets(&[BLOCKS])),
            allow(Ports::Range(Protocol::Sctp, 36412, 36412), from_sets(&[BLOCKS])),
        ],
    );
    Case::enforced()
        .pod("a", Some(PROFILE), &["10.0.0.2", "fd00::2"])
        .profile(PROFILE, ingress, Direction::default())
        .blocks(BLOCKS, &["10.1.0.0/17", "10.1.192.0/18", "255.255.255.0/24", "fd01::/16"])
}

fn named_ports() -> Case {
    let egress = isolated(&["web/to-metrics"], vec![allow(Ports::OfPeer, from_sets(&[NAMED]))]);
    Case::enforced()
        .pod("a", Some(PROFILE), &["10.0.0.2", "fd00::2"])
        .profile(PROFILE, Direction::default(), egress)
        .ports(
            NAMED,
            &[("10.0.1.5", Protocol::Tcp, 9100), ("10.0.1.6", Protocol::Udp, 9101), ("fd00::6", Protocol::Tcp, 9100)],
        )
}
