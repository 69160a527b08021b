//! What the kernel has against what it should have.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash as _;
use std::net::IpAddr;

use towpath_net::Family;
use towpath_net::nft::{Base, Rule};
use towpath_net::policy::bind::{Leases, View};
use towpath_net::policy::bundle::{AddressPort, Bundle, Delta, Members, SetId};
use towpath_net::policy::chains::{self, Verdict};
use towpath_net::policy::latch;
use towpath_net::policy::objects::{Kind, Object, TABLE, Way, common_set, denied, pods_map, self_set};
use towpath_net::policy::program::{Program, render};
use towpath_net::policy::skeleton::{Shape, base_chains, inner_chains, sets};

use super::encode::{Element, Key};
use super::mend::{Differences, Moves};
use super::read::{Found, FoundSet};
use super::write::borders;
use super::{Error, PolicyTable, Written};

/// How often a table that changes while it is read is read again.
const ATTEMPTS: usize = 10;

/// What a look at the table came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// It was as it should be: nothing was written.
    Nothing,
    /// What differed was put right, and nothing else was touched.
    Mended(Written),
    /// There was no table, or another one under its name: it was made anew, and no new connections began meanwhile.
    Rebuilt(Written),
}

/// What there should be, but for rules and elements.
struct Wanted<'a> {
    view: View<'a>,
    program: &'a Program,
}

impl PolicyTable {
    /// Reads what the kernel has, and makes it what it should be; what is right is not touched. So a new agent finds out
    /// what an earlier one left, and one that hears of changes that it did not make undoes them.
    pub fn repair(&mut self, bundle: &Bundle, leases: &Leases) -> Result<Repair, Error> {
        self.program = None;
        let (program, change) = Program::of(bundle, leases)?;
        if !bundle.is_enforced {
            let was_there = self.exists()? || self.flags(latch::TABLE)?.is_some();
            let removed = if was_there { Repair::Mended(self.remove()?) } else { Repair::Nothing };
            // The leases are needed when policies come into force.
            self.program = Some(program);
            return Ok(removed);
        }
        let view = View { before: bundle, delta: &Delta::default() };
        // One that sleeps, or belongs to somebody, is none of ours.
        let differences = if self.flags(TABLE)? == Some(0) {
            self.learn_ended()?;
            self.differences(&Wanted { view, program: &program })?
        } else {
            Differences { is_foreign: true, ..Differences::default() }
        };
        let outcome = if differences.is_foreign {
            self.attempt(|table| table.make_table(view, &program, &change, true))?;
            Repair::Rebuilt(self.take_written())
        } else {
            self.attempt(|table| {
                table.mend(&differences)?;
                table.close_latch()
            })?;
            match self.take_written() {
                Written { transactions: 0, .. } => Repair::Nothing,
                written => Repair::Mended(written),
            }
        };
        self.program = Some(program);
        Ok(outcome)
    }

    fn differences(&mut self, wanted: &Wanted<'_>) -> Result<Differences, Error> {
        for _ in 0..ATTEMPTS {
            let before = self.generation()?;
            match self.differences_once(wanted) {
                Ok(found) if self.generation()? == before => return Ok(found),
                Ok(_) => {}
                Err(Error::Netlink(error)) if error.is_missing() || error.is_torn() => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Unsteady(ATTEMPTS))
    }

    fn differences_once(&mut self, wanted: &Wanted<'_>) -> Result<Differences, Error> {
        let mut out = Differences::default();
        self.compare_chains(wanted, &mut out)?;
        self.compare_sets(wanted, &mut out)?;
        if out.is_foreign {
            return Ok(out);
        }
        for family in Family::ALL {
            for kind in [Kind::Addresses, Kind::Ports] {
                self.compare_common(wanted, kind, family, &mut out)?;
            }
            for way in Way::ALL {
                let pods = wanted.pods(family, |binding| (Key::of(binding.0), Some(binding.1)), way);
                out.leads.push(self.compare_elements(pods_map(way, family), pods)?);
                let counted = wanted.pods(family, |binding| (Key::of(binding.0), None), way);
                out.members.push(self.compare_elements(denied(way, family), counted)?);
            }
            let pairs = wanted.pods(family, |binding| (Key::twice(binding.0), None), Way::Ingress);
            out.members.push(self.compare_elements(self_set(family), pairs)?);
        }
        Ok(out)
    }

    fn compare_chains(&mut self, wanted: &Wanted<'_>, out: &mut Differences) -> Result<(), Error> {
        let mut found: BTreeMap<String, (bool, Option<Base>, fnv::FnvHasher)> = BTreeMap::new();
        self.each_chain(TABLE, |name, is_base, base| {
            _ = found.insert(name, (is_base, base, fnv::FnvHasher::default()));
        })?;
        self.each_rule(TABLE, |chain, rule| {
            if let Some((.., hash)) = found.get_mut(chain) {
                rule.hash(hash);
            }
        })?;
        for (name, chain) in inner_chains(self.log).into_iter().chain(base_chains()) {
            match found.remove(name) {
                Some((is_base, base, hash)) if is_base == chain.base.is_some() && base == chain.base => {
                    out.chain(name, &chain.rules, Some(&hash));
                }
                _ => out.is_foreign = true,
            }
        }
        for object in wanted.program.objects().keys() {
            for (name, rules) in wanted.chains_of(*object)? {
                match found.remove(&name) {
                    Some((true, ..)) => out.is_foreign = true,
                    Some((false, _, hash)) => out.chain(&name, &rules, Some(&hash)),
                    None => out.chain(&name, &rules, None),
                }
            }
        }
        out.old_chains = found.into_keys().collect();
        Ok(())
    }

    fn compare_sets(&mut self, wanted: &Wanted<'_>, out: &mut Differences) -> Result<(), Error> {
        let mut found: BTreeMap<String, FoundSet> = BTreeMap::new();
        self.each_set(|name, set| _ = found.insert(name, set))?;
        // They go with the rules that look into them.
        found.retain(|_, set| !set.is_nameless());
        for (name, shape) in sets() {
            out.is_foreign |= !found.remove(name).is_some_and(|set| set.is(&shape));
        }
        for object in wanted.program.objects().keys() {
            let Some((name, shape, elements)) = wanted.set_of(*object)? else { continue };
            match found.remove(&name) {
                Some(set) if set.is(&shape) && shape.is_interval => self.compare_blocks(&name, elements, out)?,
                Some(set) if set.is(&shape) => {
                    let elements = elements.into_iter().map(|element| (element.key, element.verdict)).collect();
                    out.leads.push(self.compare_elements(&name, elements)?);
                }
                Some(_) => out.is_foreign = true,
                None => {
                    out.new_sets.push((name.clone(), shape));
                    out.members.push(Moves { set: name, go: Vec::new(), come: elements });
                }
            }
        }
        out.old_sets = found.into_keys().collect();
        Ok(())
    }

    fn compare_blocks(&mut self, name: &str, wanted: Vec<Element>, out: &mut Differences) -> Result<(), Error> {
        let mut found = BTreeSet::new();
        self.each_element(name, |element| _ = found.insert((element.key, element.is_end)))?;
        if found != wanted.iter().map(|element| (element.key, element.is_end)).collect() {
            out.blocks.push((name.to_owned(), wanted));
        }
        Ok(())
    }

    fn compare_elements(&mut self, name: &str, mut wanted: BTreeMap<Key, Option<Verdict>>) -> Result<Moves, Error> {
        let mut go = Vec::new();
        self.each_element(name, |Found { key, leads, .. }| {
            if wanted.get(&key).is_some_and(|verdict| leads.is(*verdict)) {
                wanted.remove(&key);
            } else {
                go.push(key.into());
            }
        })?;
        let come = wanted.into_iter().map(|(key, verdict)| Element { verdict, ..key.into() }).collect();
        Ok(Moves { set: name.to_owned(), go, come })
    }

    /// The members of all sets of a kind. Only how many there are of each is kept; who is missing is looked for where some are.
    /// Those of sets that are not wanted are told apart: chains that packets still come to may look for them.
    fn compare_common(
        &mut self,
        wanted: &Wanted<'_>,
        kind: Kind,
        family: Family,
        out: &mut Differences,
    ) -> Result<(), Error> {
        let name = common_set(kind, family);
        let (mut go, mut old, mut present) = (Vec::new(), Vec::new(), BTreeMap::<SetId, usize>::new());
        self.each_element(name, |Found { key, .. }| match key.split() {
            Some((id, _)) if !wanted.has_set(id, kind, family) => old.push(key.into()),
            Some((id, rest)) if has(wanted.view.before(id), rest) => *present.entry(id).or_default() += 1,
            _ => go.push(key.into()),
        })?;
        let lacking: BTreeSet<SetId> = wanted
            .sets(kind, family)
            .filter(|(id, members)| present.get(id).copied().unwrap_or_default() < count(members, family))
            .map(|(id, _)| id)
            .collect();
        let mut seen = BTreeSet::new();
        if lacking.iter().any(|id| present.contains_key(id)) {
            self.each_element(name, |Found { key, .. }| {
                seen.extend(Some(key).filter(|key| key.split().is_some_and(|(id, _)| lacking.contains(&id))));
            })?;
        }
        let all = wanted.sets(kind, family).filter(|(id, _)| lacking.contains(id));
        let come = all.flat_map(|(id, members)| keys(id, members, family)).filter(|key| !seen.contains(key));
        let come = come.map(Element::from).collect();
        out.members.push(Moves { set: name.to_owned(), go, come });
        out.old_members.push((name, old));
        Ok(())
    }
}

impl Wanted<'_> {
    fn chains_of(&self, object: Object) -> Result<Vec<(String, Vec<Rule>)>, Error> {
        Ok(match object {
            Object::Set { .. } => Vec::new(),
            Object::Gate { way, family, .. } => {
                let sets = self.program.objects().get(&object).map(|entry| &*entry.uses).unwrap_or_default();
                vec![(object.to_string(), chains::gate(way, family, sets))]
            }
            Object::Profile { .. } => {
                let rendered = render(self.view, object)?;
                rendered.chains.into_iter().map(|chain| (chain.name, chain.rules)).collect()
            }
        })
    }

    /// A set of its own that an object has.
    fn set_of(&self, object: Object) -> Result<Option<(String, Shape, Vec<Element>)>, Error> {
        Ok(match object {
            Object::Set { id, kind: Kind::Ranges, family } => {
                let Members::Ranges(ranges) = self.view.before(id) else { return Ok(None) };
                let ours = ranges.iter().filter(|range| Family::of(range.first) == family);
                Some((object.to_string(), Shape::of_ranges(family), ours.flat_map(borders).collect()))
            }
            Object::Profile { .. } => render(self.view, object)?.ports.map(|(name, ports)| {
                let element = |((protocol, port), verdict)| Element {
                    verdict: Some(verdict),
                    ..Key::of_port(protocol, port).into()
                };
                (name, Shape::of_ports(), ports.into_iter().map(element).collect())
            }),
            Object::Set { .. } | Object::Gate { .. } => None,
        })
    }

    fn sets(&self, kind: Kind, family: Family) -> impl Iterator<Item = (SetId, &Members)> {
        let ours = self.program.objects().keys().filter_map(move |object| match object {
            Object::Set { id, kind: of, family: one } if (*of, *one) == (kind, family) => Some(*id),
            _ => None,
        });
        ours.map(|id| (id, self.view.before(id)))
    }

    fn has_set(&self, id: SetId, kind: Kind, family: Family) -> bool {
        self.program.objects().contains_key(&Object::Set { id, kind, family })
    }

    fn pods(
        &self,
        family: Family,
        element: impl Fn((IpAddr, Verdict)) -> (Key, Option<Verdict>),
        way: Way,
    ) -> BTreeMap<Key, Option<Verdict>> {
        let ours = self.program.bindings().filter(|binding| binding.family() == family);
        ours.map(|binding| element((binding.address, binding.verdict(way)))).collect()
    }
}

fn count(members: &Members, family: Family) -> usize {
    match members {
        Members::Addresses(_) => members.addresses(family).count(),
        Members::Ports(_) => members.ports(family).count(),
        Members::Ranges(_) => 0,
    }
}

fn keys(id: SetId, members: &Members, family: Family) -> impl Iterator<Item = Key> {
    let addresses = members.addresses(family).map(move |address| Key::member(id, address));
    addresses.chain(members.ports(family).map(move |port| Key::member_port(id, port)))
}

/// Whether the member with this key is one of these.
fn has(members: &Members, key: &[u8]) -> bool {
    let address = |bytes: &[u8]| {
        let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
    };
    match members {
        Members::Addresses(all) => address(key).is_some_and(|address| all.contains(&address)),
        Members::Ports(all) => key.split_last_chunk::<8>().is_some_and(|(first, [number, .., high, low, _, _])| {
            let at = |protocol| {
                let address = address(first)?;
                Some(AddressPort { address, protocol, port: u16::from_be_bytes([*high, *low]) })
            };
            let protocols = towpath_net::lease::Protocol::ALL.into_iter().filter(|one| one.number() == *number);
            protocols.filter_map(at).any(|port| all.contains(&port))
        }),
        Members::Ranges(_) => false,
    }
}
