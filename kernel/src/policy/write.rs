//! What a change comes to, as transactions.

use std::fmt;
use std::net::IpAddr;

use towpath_net::Family;
use towpath_net::nft::build::inner_chain;
use towpath_net::nft::{Chain, Rule};
use towpath_net::policy::bind::{Binding, LeaseChanges, Leases, View};
use towpath_net::policy::bundle::{AddressPort, Bundle, Delta, Members, SetDelta, SetId};
use towpath_net::policy::chains;
use towpath_net::policy::latch;
use towpath_net::policy::objects::{Kind, Object, TABLE, Way, common_set, denied, pods_map, self_set};
use towpath_net::policy::program::{Change, Entry, Program, render};
use towpath_net::policy::skeleton::{Shape, base_chains, inner_chains, sets};
use towpath_net::ranges::Range;

use super::encode::{Element, Key};
use super::{About, Error, Meanwhile, PolicyTable, Written};
use crate::nft::encode::behind;

/// How many operations a transaction has that need not be one with others.
pub(super) const SHORT: usize = 256;
/// How many operations a transaction has at most whose parts belong together: who goes from sets goes before who comes.
pub(super) const LONG: usize = 1024;
/// How many members of a set are looked at before the transaction is looked at.
pub(super) const PORTION: usize = 256;

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table => write!(f, "table inet {TABLE}"),
            Self::Latch => write!(f, "table inet {}", latch::TABLE),
            Self::Part(name) => write!(f, "{name} of table inet {TABLE}"),
            Self::Object(object) => write!(f, "{object} of table inet {TABLE}"),
            Self::Pod(address) => write!(f, "pod {address} in table inet {TABLE}"),
        }
    }
}

impl PolicyTable {
    /// Policies come into force, or go out of it.
    pub(super) fn switch(
        &mut self,
        before: &Bundle,
        delta: &Delta,
        leases: &LeaseChanges,
        program: &Program,
    ) -> Result<Written, Error> {
        let mut after = before.clone();
        after.apply(delta.clone())?;
        let mut all: Leases = program.leases().clone();
        for (uid, addresses) in leases {
            match addresses {
                Some(addresses) => _ = all.insert(uid.clone(), addresses.clone()),
                None => _ = all.remove(uid),
            }
        }
        self.load(&after, &all, Meanwhile::Open)
    }

    /// Makes the table with all that a program has.
    pub(super) fn make_table(
        &mut self,
        view: View<'_>,
        program: &Program,
        change: &Change,
        is_closed: bool,
    ) -> Result<(), Error> {
        if is_closed {
            self.close_latch()?;
            self.take_apart()?;
        }
        self.writer.new_table(About::Table);
        self.writer.delete_table(About::Table);
        self.writer.new_table(About::Table);
        for (name, shape) in sets() {
            self.writer.new_set(About::Part(name), name, &shape);
        }
        self.chains(inner_chains(self.log));
        self.end_again()?;
        self.commit()?;
        for object in &change.make {
            self.make(view, program, *object)?;
        }
        self.commit()?;
        // A pod is known as a whole, and not before all that it leads to is there.
        for binding in change.bind.chunks(1) {
            self.bind(binding);
            self.roll(SHORT)?;
        }
        self.chains(base_chains());
        self.commit()?;
        if !is_closed {
            self.close_latch()?;
        }
        Ok(())
    }

    pub(super) fn chains(&mut self, chains: Vec<(&'static str, Chain)>) {
        for (name, chain) in chains {
            self.writer.new_chain(About::Part(name), name, &chain);
            for rule in &chain.rules {
                self.writer.rule(About::Part(name), name, rule);
            }
        }
    }

    /// Writes a change: in one transaction where that is short, otherwise cut where no packet sees it.
    pub(super) fn write_change(&mut self, view: View<'_>, program: &Program, change: &Change) -> Result<(), Error> {
        for object in &change.make {
            self.make(view, program, *object)?;
        }
        if self.written.transactions > 0 {
            self.commit()?;
        }
        change.members.iter().try_for_each(|set| self.move_members(view, *set, Moving::Out))?;
        self.unbind(&change.unbind);
        self.bind(&change.bind);
        change.members.iter().try_for_each(|set| self.move_members(view, *set, Moving::In))?;
        for (object, entry) in &change.drop {
            self.drop(view, *object, entry)?;
        }
        self.commit()
    }

    /// Sends what there is, if it is so much.
    pub(super) fn roll(&mut self, much: usize) -> Result<(), Error> {
        if self.writer.operations() >= much { self.commit() } else { Ok(()) }
    }

    fn make(&mut self, view: View<'_>, program: &Program, object: Object) -> Result<(), Error> {
        let about = About::Object(object);
        match object {
            Object::Set { id, kind, family } => {
                if kind == Kind::Ranges {
                    self.writer.new_set(about, &object.to_string(), &Shape::of_ranges(family));
                }
                self.add_members(view, id, kind, family)?;
            }
            Object::Gate { way, family, .. } => {
                let sets = program.objects().get(&object).map(|entry| &*entry.uses).unwrap_or_default();
                self.chain(about, &object.to_string(), &chains::gate(way, family, sets));
            }
            Object::Profile { .. } => {
                let rendered = render(view, object)?;
                if let Some((name, ports)) = &rendered.ports {
                    self.writer.new_set(about, name, &Shape::of_ports());
                    self.writer.add(
                        about,
                        name,
                        ports.iter().map(|((protocol, port), verdict)| Element {
                            verdict: Some(*verdict),
                            ..Element::from(Key::of_port(*protocol, *port))
                        }),
                    );
                }
                for chain in &rendered.chains {
                    self.chain(about, &chain.name, &chain.rules);
                }
            }
        }
        self.roll(SHORT)
    }

    fn chain(&mut self, about: About, name: &str, rules: &[Rule]) {
        self.writer.new_chain(about, name, &inner_chain(Vec::new()));
        for rule in rules {
            self.writer.rule(about, name, rule);
        }
    }

    /// All members that a new set will have.
    fn add_members(&mut self, view: View<'_>, id: SetId, kind: Kind, family: Family) -> Result<(), Error> {
        let about = About::Object(Object::Set { id, kind, family });
        let (stay, go, come) = view.after(id);
        let name = set_name(id, kind, family);
        let come = elements(id, come, Wanted::But(stay), family);
        let mut all = elements(id, stay, Wanted::But(go), family).chain(come).peekable();
        while all.peek().is_some() {
            self.writer.add(about, &name, all.by_ref().take(PORTION));
            self.roll(SHORT)?;
        }
        Ok(())
    }

    /// Who goes from sets that packets are looked up in, or who comes to them.
    fn move_members(&mut self, view: View<'_>, object: Object, moving: Moving) -> Result<(), Error> {
        let Object::Set { id, kind, family } = object else { return Ok(()) };
        let before = view.before(id);
        let (members, wanted) = match (view.delta.sets.get(&id), moving) {
            (Some(SetDelta::Change { remove, .. }), Moving::Out) => (remove, Wanted::In(before)),
            (Some(SetDelta::Change { add, .. }), Moving::In) => (add, Wanted::But(before)),
            (Some(SetDelta::New(after)), Moving::Out) => (before, Wanted::But(after)),
            (Some(SetDelta::New(after)), Moving::In) => (after, Wanted::But(before)),
            (Some(SetDelta::Gone) | None, _) => return Ok(()),
        };
        let (about, name) = (About::Object(object), set_name(id, kind, family));
        let mut all = elements(id, members, wanted, family).peekable();
        while all.peek().is_some() {
            let portion = all.by_ref().take(PORTION);
            match moving {
                Moving::Out => self.writer.remove(about, &name, portion),
                Moving::In => self.writer.add(about, &name, portion),
            }
            self.roll(LONG)?;
        }
        Ok(())
    }

    fn unbind(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            let (about, family) = (About::Pod(*address), Family::of(*address));
            for way in Way::ALL {
                self.writer.remove(about, pods_map(way, family), [Key::of(*address).into()]);
                self.writer.remove(about, denied(way, family), [Key::of(*address).into()]);
            }
            self.writer.remove(about, self_set(family), [Key::twice(*address).into()]);
        }
    }

    /// Takes an address from one of the maps, where it must be.
    pub(super) fn unmap(&mut self, way: Way, address: IpAddr) -> Result<(), Error> {
        let map = pods_map(way, Family::of(address));
        self.writer.remove(About::Pod(address), map, [Key::of(address).into()]);
        self.commit()
    }

    fn bind(&mut self, bindings: &[Binding]) {
        for binding in bindings {
            let (about, family) = (About::Pod(binding.address), binding.family());
            let key = Key::of(binding.address);
            for way in Way::ALL {
                self.writer.add(about, denied(way, family), [key.into()]);
                let element = Element { verdict: Some(binding.verdict(way)), ..key.into() };
                self.writer.add(about, pods_map(way, family), [element]);
            }
            self.writer.add(about, self_set(family), [Key::twice(binding.address).into()]);
        }
    }

    fn drop(&mut self, view: View<'_>, object: Object, entry: &Entry) -> Result<(), Error> {
        let about = About::Object(object);
        match object {
            Object::Set { kind: Kind::Ranges, .. } => self.writer.delete_set(about, &object.to_string()),
            Object::Set { id, kind, family } => {
                let name = set_name(id, kind, family);
                let mut all = elements(id, view.before(id), Wanted::All, family).peekable();
                while all.peek().is_some() {
                    self.writer.remove(about, &name, all.by_ref().take(PORTION));
                    self.roll(SHORT)?;
                }
            }
            Object::Gate { .. } | Object::Profile { .. } => {
                let chains = entry.parts.chains(object);
                for chain in &chains {
                    self.writer.flush_chain(about, chain);
                }
                if let Some(map) = entry.parts.map(object) {
                    self.writer.delete_set(about, &map);
                }
                for chain in &chains {
                    self.writer.delete_chain(about, chain);
                }
            }
        }
        self.roll(SHORT)
    }
}

/// The set that has the members of a set.
fn set_name(id: SetId, kind: Kind, family: Family) -> String {
    match kind {
        Kind::Ranges => Object::Set { id, kind, family }.to_string(),
        Kind::Addresses | Kind::Ports => common_set(kind, family).to_owned(),
    }
}

/// The members of a family that are wanted, as elements of the set that has them.
fn elements<'a>(
    id: SetId,
    members: &'a Members,
    wanted: Wanted<'a>,
    family: Family,
) -> Box<dyn Iterator<Item = Element> + 'a> {
    match members {
        Members::Addresses(_) => {
            let ours = members.addresses(family).filter(move |address| wanted.has_address(address));
            Box::new(ours.map(move |address| Key::member(id, address).into()))
        }
        Members::Ports(_) => {
            let ours = members.ports(family).filter(move |port| wanted.has_port(port));
            Box::new(ours.map(move |port| Key::member_port(id, port).into()))
        }
        Members::Ranges(ranges) => {
            let ours = ranges.iter().filter(move |range| Family::of(range.first) == family && wanted.has_range(range));
            Box::new(ours.flat_map(borders))
        }
    }
}

/// A range is two elements, its first address and the one behind its last; the end of the address space needs none.
pub(super) fn borders(range: &Range) -> impl Iterator<Item = Element> + use<> {
    let end = behind(range).map(|end| Element { is_end: true, ..Key::of(end).into() });
    std::iter::once(Key::of(range.first).into()).chain(end)
}

/// Whether members go or come.
#[derive(Clone, Copy)]
enum Moving {
    Out,
    In,
}

/// Which members are meant.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    All,
    /// Those that these are too.
    In(&'a Members),
    /// Those that these are not.
    But(&'a Members),
}

impl Wanted<'_> {
    fn has_address(self, address: &IpAddr) -> bool {
        self.test(|others| matches!(others, Members::Addresses(all) if all.contains(address)))
    }

    fn has_port(self, port: &AddressPort) -> bool {
        self.test(|others| matches!(others, Members::Ports(all) if all.contains(port)))
    }

    fn has_range(self, range: &Range) -> bool {
        self.test(|others| matches!(others, Members::Ranges(all) if all.binary_search(range).is_ok()))
    }

    fn test(self, is_in: impl Fn(&Members) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::In(others) => is_in(others),
            Self::But(others) => !is_in(others),
        }
    }
}
