//! What the rules say that a node is given, expression by expression.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use towpath_net::Family;
use towpath_net::device::{BRIDGE, GENEVE, IPIP, VXLAN, WIREGUARD};
use towpath_net::lease::host_interface;
use towpath_net::nft::build::inner_chain;
use towpath_net::nft::{FieldType, Hook};
use towpath_net::policy::bind::{Leases, View};
use towpath_net::policy::bundle::{Bundle, Delta, Members};
use towpath_net::policy::chains::{self, Verdict};
use towpath_net::policy::objects::{Kind, Object, Way, common_set, pods_map, self_set, set_key};
use towpath_net::policy::program::{Program, render};
use towpath_net::policy::settings::LogDenied;
use towpath_net::policy::skeleton::{self, Shape};

use crate::compiled;
use crate::machine::{Contents, ESTABLISHED, Frame, Machine, NEW, Outcome, RELATED};
use crate::node::{self, Local};
use crate::world::{Packet, World, is_local};

/// The first packet with which the rules of a node do something else than the text of the API says, and what.
pub fn differs(world: &World, packets: &[Packet], seed: u64) -> Option<(Packet, String)> {
    compiled::bundles(world, seed).iter().find_map(|(node, bundle)| {
        // Pods whose leases are not known: nothing of them gets through.
        let unknown = |uid: &str| (seed ^ u64::from(uid.as_bytes()[1])).is_multiple_of(16);
        let here = world.pods.iter().filter(|pod| is_local(pod) && pod.node.as_ref() == Some(node));
        let leases: Leases =
            here.filter(|pod| !unknown(&pod.uid)).map(|pod| (pod.uid.clone(), pod.addresses.clone())).collect();
        let links = Links::of(seed);
        let machine = bundle.is_enforced.then(|| load(bundle, &leases));
        packets.iter().find_map(|packet| {
            let source = Local::at(world, node, packet.source)?;
            let destination = Local::at(world, node, packet.destination)?;
            let is_unknown = |end| matches!(end, Local::Pod(pod) if unknown(&pod.uid));
            let known = !world.is_policed()
                || !(is_unknown(source) || is_unknown(destination) && !matches!(source, Local::Node));
            let expected = known && node::passes(world, source, destination, packet);
            let ends = [source, destination];
            let passes = |state| machine.as_ref().is_none_or(|machine| run(machine, ends, links, packet, state));
            let why = if passes(NEW) != expected {
                format!("at {node}: the API says that it passes: {expected}; the rules do the contrary")
            } else if !passes(ESTABLISHED) || !passes(RELATED) {
                format!("at {node}: it does not pass though it belongs to a connection")
            } else {
                return None;
            };
            Some((*packet, why))
        })
    })
}

/// The links of a node.
#[derive(Clone, Copy)]
struct Links {
    /// Whether its pods are on the bridge.
    is_bridged: bool,
    /// That to everywhere else.
    uplink: &'static str,
}

impl Links {
    fn of(seed: u64) -> Self {
        let uplinks = ["eth0", GENEVE, IPIP.v4, VXLAN.v6, WIREGUARD[0]];
        let at = usize::try_from(seed % 5).unwrap();
        Self { is_bridged: seed.is_multiple_of(3), uplink: uplinks[at] }
    }

    /// By which a packet comes from there, or leaves to there.
    fn to(self, end: Local<'_>) -> Option<String> {
        match end {
            Local::Pod(_) if self.is_bridged => Some(BRIDGE.to_owned()),
            Local::Pod(pod) => Some(host_interface(&pod.uid, "eth0")),
            Local::Node => None,
            Local::Elsewhere => Some(self.uplink.to_owned()),
        }
    }
}

/// Whether a packet passes a node.
fn run(machine: &Machine, ends: [Local<'_>; 2], links: Links, packet: &Packet, state: u32) -> bool {
    let [from_link, to_link] = ends.map(|end| links.to(end));
    let frame = Frame { from_link, to_link, state, ..frame(packet) };
    let hook = match ends {
        [Local::Node, _] => Hook::Output,
        [_, Local::Node] => Hook::Input,
        _ => Hook::Forward,
    };
    machine.passes(hook, &frame)
}

/// A packet with its headers. What follows them looks like the ports that it does not have.
fn frame(packet: &Packet) -> Frame {
    let port = packet.port.unwrap_or(80).to_be_bytes();
    let mut transport = vec![0x9c, 0x40, port[0], port[1], 0, 0, 0, 1];
    transport.resize(20, 0);
    let (network, family) = match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let fields = [0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, packet.protocol, 0, 0];
            ([&fields[..], &source.octets(), &destination.octets()].concat(), 2)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let fields = [0x60, 0, 0, 0, 0, 20, packet.protocol, 64];
            ([&fields[..], &source.octets(), &destination.octets()].concat(), 10)
        }
        _ => panic!("both ends of {packet} must be of one family"),
    };
    Frame { network, transport: Some(transport), family, protocol: packet.protocol, ..Frame::default() }
}

/// All that the node is given, put together.
fn load(bundle: &Bundle, leases: &Leases) -> Machine {
    let (program, _) = Program::of(bundle, leases).unwrap();
    let delta = Delta::default();
    let view = View { before: bundle, delta: &delta };
    let sets = skeleton::sets().into_iter().map(|(name, shape)| (name.to_owned(), empty(&shape))).collect();
    let mut machine = Machine { sets, ..Machine::default() };
    for (name, chain) in skeleton::inner_chains(LogDenied::Flows).into_iter().chain(skeleton::base_chains()) {
        machine.chains.insert(name.to_owned(), chain);
    }
    for (object, entry) in program.objects() {
        match *object {
            Object::Set { id, kind, family } => put_set(&mut machine, *object, kind, family, &bundle.sets[&id], id),
            Object::Gate { way, family, .. } => {
                let rules = chains::gate(way, family, &entry.uses);
                machine.chains.insert(object.to_string(), inner_chain(rules));
            }
            Object::Profile { .. } => put_profile(&mut machine, view, *object),
        }
    }
    for binding in program.bindings() {
        let key = bytes(binding.address);
        for way in Way::ALL {
            let outcome = outcome(binding.verdict(way));
            verdicts(&mut machine, pods_map(way, binding.family())).insert(key.clone(), outcome);
        }
        keys(&mut machine, self_set(binding.family())).insert([key.clone(), key].concat());
    }
    machine
}

fn put_set(
    machine: &mut Machine,
    object: Object,
    kind: Kind,
    family: Family,
    members: &Members,
    id: towpath_net::policy::bundle::SetId,
) {
    let prefixed = |address| [&set_key(id)[..], &bytes(address)].concat();
    match members {
        Members::Addresses(all) => {
            let of_family = all.iter().filter(|address| Family::of(**address) == family);
            keys(machine, common_set(kind, family)).extend(of_family.map(|address| prefixed(*address)));
        }
        Members::Ports(all) => {
            let of_family = all.iter().filter(|one| Family::of(one.address) == family);
            let port = |one: u16| [&one.to_be_bytes()[..], &[0, 0]].concat();
            keys(machine, common_set(kind, family)).extend(
                of_family
                    .map(|one| [prefixed(one.address), vec![one.protocol.number(), 0, 0, 0], port(one.port)].concat()),
            );
        }
        Members::Ranges(all) => {
            let of_family = all.iter().filter(|range| Family::of(range.first) == family);
            let ranges = of_family.map(|range| (bytes(range.first), bytes(range.last))).collect();
            let length = usize::from(family.bits() / 8);
            machine.sets.insert(object.to_string(), (length, Contents::Ranges(ranges)));
        }
    }
}

fn put_profile(machine: &mut Machine, view: View<'_>, object: Object) {
    let rendered = render(view, object).unwrap();
    for chain in rendered.chains {
        machine.chains.insert(chain.name, inner_chain(chain.rules));
    }
    if let Some((name, ports)) = rendered.ports {
        let element = |((protocol, port), verdict): ((towpath_net::lease::Protocol, u16), Verdict)| {
            let [high, low] = port.to_be_bytes();
            (vec![protocol.number(), 0, 0, 0, high, low, 0, 0], outcome(verdict))
        };
        let map = Contents::Verdicts(ports.into_iter().map(element).collect());
        machine.sets.insert(name, (8, map));
    }
}

fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Return => Outcome::Return,
        Verdict::Goto(object) => Outcome::Goto(object.to_string()),
    }
}

fn empty(shape: &Shape) -> (usize, Contents) {
    let field = |field: &FieldType| match field {
        FieldType::Address(family) => usize::from(family.bits() / 8),
        FieldType::Protocol | FieldType::Port | FieldType::Mark => 4,
        FieldType::Mac => 8,
        FieldType::Link => 16,
    };
    let contents = match (shape.has_verdicts, shape.is_interval) {
        (true, _) => Contents::Verdicts(HashMap::new()),
        (false, true) => Contents::Ranges(Vec::new()),
        (false, false) => Contents::Keys(HashSet::new()),
    };
    (shape.key.iter().map(field).sum(), contents)
}

fn keys<'m>(machine: &'m mut Machine, name: &str) -> &'m mut HashSet<Vec<u8>> {
    match machine.sets.get_mut(name) {
        Some((_, Contents::Keys(keys))) => keys,
        other => panic!("{name} is no set of keys but {other:?}"),
    }
}

fn verdicts<'m>(machine: &'m mut Machine, name: &str) -> &'m mut HashMap<Vec<u8>, Outcome> {
    match machine.sets.get_mut(name) {
        Some((_, Contents::Verdicts(verdicts))) => verdicts,
        other => panic!("{name} is no map of verdicts but {other:?}"),
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}
