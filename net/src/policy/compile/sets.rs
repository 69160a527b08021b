//! Sets of addresses, and who is in them: found from selectors when it is asked, remembered only where it changes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use fnv::FnvHashMap;

use super::Compiler;
use super::blocks;
use super::hash::first_8_bytes;
use super::ids::{AtomId, ClassId, GroupId, Id as _, IdSet, NodeId, OwnerId, PodId, SetNo, Slab, Sym, have_common};
use super::index;
use super::pods::Traits;
use crate::lease::Protocol;
use crate::policy::bundle::{AddressPort, Members, SetId};
use crate::ranges::Range;

/// All sets that profiles name.
#[derive(Debug, Default)]
pub struct Sets {
    pub all: Slab<SetNo, Set>,
    definitions: FnvHashMap<Arc<Definition>, SetNo>,
    names: FnvHashMap<SetId, SetNo>,
    /// Those that may have lost their last user.
    idle: Vec<SetNo>,
    /// How many sets are told to somebody.
    told: usize,
    /// Whether members were in when changes were last told, for those for whom it may be different now.
    pub journal: FnvHashMap<SetNo, FnvHashMap<Member, bool>>,
    /// Who has an address: mostly one.
    owners: FnvHashMap<IpAddr, IdSet<OwnerId>>,
}

/// A set.
#[derive(Debug, Default)]
pub struct Set {
    pub id: SetId,
    pub definition: Arc<Definition>,
    users: u32,
    /// The subscribed nodes that have it.
    pub holders: IdSet<NodeId>,
    is_told: bool,
}

/// Who is in a set.
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum Definition {
    /// The addresses of these pods and nodes.
    Addresses { atoms: Box<[AtomId]>, groups: Box<[GroupId]> },
    /// Those of the ports of a name that these pods have, and that pods with these addresses have.
    Ports { port: PortName, atoms: Box<[AtomId]>, within: Box<[Range]>, everything: Option<AtomId> },
    /// These.
    Ranges(Box<[Range]>),
}

/// Which ports a name is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName {
    /// All, where this is nothing.
    pub protocol: Option<Protocol>,
    pub name: Sym,
}

/// One who may be in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    Address(IpAddr),
    Port(AddressPort),
}

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Pod(PodId),
    Node(NodeId),
}

impl Default for Definition {
    fn default() -> Self {
        Self::Ranges(Box::default())
    }
}

impl Definition {
    /// The selectors that make somebody a member.
    fn atoms(&self) -> impl Iterator<Item = AtomId> {
        let (atoms, everything): (&[AtomId], _) = match self {
            Self::Addresses { atoms, .. } => (atoms, None),
            Self::Ports { atoms, everything, .. } => (atoms, *everything),
            Self::Ranges(_) => (&[], None),
        };
        let everything = everything.filter(|id| !atoms.contains(id));
        atoms.iter().copied().chain(everything)
    }

    fn groups(&self) -> &[GroupId] {
        match self {
            Self::Addresses { groups, .. } => groups,
            Self::Ports { .. } | Self::Ranges(_) => &[],
        }
    }
}

impl PortName {
    pub fn names(self, name: Sym, protocol: Protocol) -> bool {
        self.name == name && self.protocol.is_none_or(|only| only == protocol)
    }
}

impl Owner {
    fn id(self) -> OwnerId {
        OwnerId::of(match self {
            Self::Pod(id) => id.number() << 1,
            Self::Node(id) => id.number() << 1 | 1,
        })
    }

    fn of(id: OwnerId) -> Self {
        let number = id.number() >> 1;
        if id.number() & 1 == 0 { Self::Pod(PodId::of(number)) } else { Self::Node(NodeId::of(number)) }
    }
}

impl Sets {
    pub fn own(&mut self, address: IpAddr, owner: Owner) {
        self.owners.entry(address).or_default().insert(owner.id());
    }

    pub fn disown(&mut self, address: IpAddr, owner: Owner) {
        index::remove(&mut self.owners, address, owner.id());
    }

    /// Whether there is a set whose changes somebody is to be told.
    pub fn are_told(&self) -> bool {
        self.told > 0
    }

    /// Notes that somebody knows the set, or nobody any more.
    pub fn set_told(&mut self, id: SetNo, is_told: bool) {
        if std::mem::replace(&mut self.all[id].is_told, is_told) != is_told {
            self.told = if is_told { self.told + 1 } else { self.told.saturating_sub(1) };
        }
    }

    pub fn hold(&mut self, id: SetNo) {
        self.all[id].users += 1;
    }

    pub fn release(&mut self, id: SetNo) {
        self.all[id].users -= 1;
        if self.all[id].users == 0 {
            self.idle.push(id);
        }
    }
}

impl Compiler {
    /// The set of a definition. It goes with the next round of changes unless somebody holds it.
    pub(super) fn set(&mut self, definition: Definition) -> SetNo {
        if let Some(id) = self.sets.definitions.get(&definition) {
            return *id;
        }
        let mut bytes = self.encode_definition(&definition);
        let mut id = SetId(first_8_bytes(&bytes));
        while self.sets.names.contains_key(&id) {
            bytes.push(0);
            id = SetId(first_8_bytes(&bytes));
        }
        let definition = Arc::new(definition);
        let number = self.sets.all.insert(Set { id, definition: Arc::clone(&definition), users: 0, ..Set::default() });
        for atom in definition.atoms() {
            self.atoms.hold(atom);
            self.atoms.all[atom].sets.insert(number);
        }
        for group in definition.groups() {
            self.nodes.hold_group(*group);
            self.nodes.groups[*group].sets.insert(number);
        }
        if let Definition::Ports { port, .. } = &*definition {
            self.symbols.hold(port.name);
        }
        self.sets.names.insert(id, number);
        self.sets.definitions.insert(definition, number);
        self.sets.idle.push(number);
        number
    }

    /// Drops the sets that no profile names any more.
    pub(super) fn drop_idle_sets(&mut self) {
        for id in std::mem::take(&mut self.sets.idle) {
            let is_there = self.sets.names.get(&self.sets.all[id].id) == Some(&id);
            if self.sets.all[id].users > 0 || !is_there {
                continue;
            }
            self.sets.set_told(id, false);
            let set = self.sets.all.remove(id);
            for atom in set.definition.atoms() {
                self.atoms.all[atom].sets.remove(id);
                self.atoms.release(atom);
            }
            for group in set.definition.groups() {
                self.nodes.groups[*group].sets.remove(id);
                self.nodes.release_group(*group);
            }
            if let Definition::Ports { port, .. } = &*set.definition {
                self.symbols.release(port.name);
            }
            self.sets.names.remove(&set.id);
            self.sets.definitions.remove(&set.definition);
        }
    }

    /// Remembers whether what a pod has is in the sets of these selectors, before that may change.
    pub(super) fn touch_pod(&mut self, atoms: &[AtomId], class: ClassId, addresses: &[IpAddr]) {
        if !self.sets.are_told() || addresses.is_empty() {
            return;
        }
        let traits = Arc::clone(&self.pods.classes[class].traits);
        let sets: BTreeSet<SetNo> = atoms.iter().flat_map(|atom| self.atoms.all[*atom].sets.iter()).collect();
        for set in sets {
            let definition = Arc::clone(&self.sets.all[set].definition);
            for address in addresses {
                match &*definition {
                    Definition::Addresses { .. } => self.touch(set, Member::Address(*address)),
                    Definition::Ports { port, .. } => {
                        for member in ports_of(&traits, *port, *address) {
                            self.touch(set, Member::Port(member));
                        }
                    }
                    Definition::Ranges(_) => {}
                }
            }
        }
    }

    /// The same of what a node has, in the sets of these selectors of nodes.
    pub(super) fn touch_node(&mut self, groups: &[GroupId], addresses: &[IpAddr]) {
        if !self.sets.are_told() {
            return;
        }
        let sets: BTreeSet<SetNo> = groups.iter().flat_map(|group| self.nodes.groups[*group].sets.iter()).collect();
        for set in sets {
            for address in addresses {
                self.touch(set, Member::Address(*address));
            }
        }
    }

    fn touch(&mut self, set: SetNo, member: Member) {
        if !self.sets.all[set].is_told || self.sets.journal.get(&set).is_some_and(|known| known.contains_key(&member)) {
            return;
        }
        let is_in = self.holds(set, member);
        self.sets.journal.entry(set).or_default().insert(member, is_in);
    }

    /// Whether a member is in a set now.
    pub(super) fn holds(&self, set: SetNo, member: Member) -> bool {
        let address = match member {
            Member::Address(address) => address,
            Member::Port(port) => port.address,
        };
        let definition = &*self.sets.all[set].definition;
        let owners = self.sets.owners.get(&address);
        owners.is_some_and(|owners| owners.iter().any(|owner| self.makes(definition, member, Owner::of(owner))))
    }

    /// Whether somebody who has the member's address makes it one of the set.
    fn makes(&self, definition: &Definition, member: Member, owner: Owner) -> bool {
        match (owner, definition, member) {
            (Owner::Pod(pod), Definition::Addresses { atoms, .. }, Member::Address(_)) => {
                have_common(atoms, &self.pods.classes[self.pods.all[pod].class].atoms)
            }
            (Owner::Pod(pod), Definition::Ports { port, .. }, Member::Port(member)) => {
                let class = &self.pods.classes[self.pods.all[pod].class];
                ports_of(&class.traits, *port, member.address).any(|other| other == member)
                    && is_port_of(definition, &class.atoms, member.address)
            }
            (Owner::Node(node), Definition::Addresses { groups, .. }, Member::Address(_)) => {
                have_common(groups, &self.nodes.all[node].groups)
            }
            _ => false,
        }
    }

    /// All who are in a set now.
    pub(super) fn members(&self, set: SetNo) -> Members {
        let definition = &*self.sets.all[set].definition;
        let classes = || definition.atoms().flat_map(|atom| self.atoms.all[atom].classes.iter());
        let classes = || classes().map(|class| &self.pods.classes[class]);
        match definition {
            Definition::Ranges(ranges) => Members::Ranges(ranges.to_vec()),
            Definition::Addresses { groups, .. } => {
                let pods = classes().flat_map(|class| class.pods.iter());
                let pods = pods.flat_map(|pod| self.pods.all[pod].addresses.iter());
                let nodes = groups.iter().flat_map(|group| self.nodes.groups[*group].nodes.iter());
                let nodes = nodes.flat_map(|node| self.nodes.all[node].addresses.iter());
                Members::Addresses(pods.chain(nodes).copied().collect())
            }
            Definition::Ports { port, .. } => {
                let with = classes().filter(|class| class.traits.ports.iter().any(|(name, ..)| *name == port.name));
                let ports = with.flat_map(|class| {
                    let addresses = class.pods.iter().flat_map(|pod| self.pods.all[pod].addresses.iter());
                    let members = addresses.filter(|address| is_port_of(definition, &class.atoms, **address));
                    members.flat_map(|address| ports_of(&class.traits, *port, *address))
                });
                Members::Ports(ports.collect())
            }
        }
    }

    fn encode_definition(&self, definition: &Definition) -> Vec<u8> {
        let atoms = |atoms: &[AtomId]| sorted(atoms.iter().map(|atom| self.encode_atom(*atom)));
        match definition {
            Definition::Addresses { atoms: pods, groups } => {
                let nodes = sorted(groups.iter().map(|group| self.encode_group(*group)));
                [vec![0], atoms(pods), nodes].concat()
            }
            Definition::Ports { port, atoms: pods, within, .. } => {
                let protocol = port.protocol.map_or(0, Protocol::number);
                let name = self.symbols.text(port.name).as_bytes().to_vec();
                [vec![1, protocol], atoms(pods), sorted([name].into_iter()), encode_ranges(within)].concat()
            }
            Definition::Ranges(ranges) => [vec![2], encode_ranges(ranges)].concat(),
        }
    }
}

/// The ports of a pod that have a name, at one of its addresses.
fn ports_of(traits: &Traits, port: PortName, address: IpAddr) -> impl Iterator<Item = AddressPort> {
    let named = traits.ports.iter().filter(move |(name, protocol, _)| port.names(*name, *protocol));
    named.map(move |(_, protocol, port)| AddressPort { address, protocol: *protocol, port: *port })
}

/// Whether the ports of who is selected by these are in a set of ports, at this address.
fn is_port_of(definition: &Definition, selected_by: &[AtomId], address: IpAddr) -> bool {
    match definition {
        Definition::Ports { atoms, within, everything, .. } => {
            let is_within = || everything.is_some_and(|all| selected_by.contains(&all));
            have_common(atoms, selected_by) || (blocks::contain(within, address) && is_within())
        }
        Definition::Addresses { .. } | Definition::Ranges(_) => false,
    }
}

/// How many there are, and each behind its length, in an order that follows from the bytes alone.
fn sorted(parts: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = parts.collect();
    parts.sort_unstable();
    let mut bytes = (parts.len() as u64).to_be_bytes().to_vec();
    for part in parts {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part);
    }
    bytes
}

fn encode_ranges(ranges: &[Range]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ranges.len() * 34);
    for address in ranges.iter().flat_map(|range| [range.first, range.last]) {
        match address {
            IpAddr::V4(address) => bytes.extend([&[4], address.octets().as_slice()].concat()),
            IpAddr::V6(address) => bytes.extend([&[6], address.octets().as_slice()].concat()),
        }
    }
    bytes
}
