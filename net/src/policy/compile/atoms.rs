//! Selectors of pods, each once however many policies have it, with the pods that they select now.

use fnv::FnvHashMap;

use super::Compiler;
use super::ids::{AtomId, ClassId, IdSet, PolicyId, ScopeId, SetNo, Slab};
use super::index::Index;
use super::pods::Class;
use super::selector::{Anchor, Needs};
use super::spaces::Reach;
use super::symbols::Symbols;
use crate::policy::input::Selector;

/// All selectors of pods.
#[derive(Debug, Default)]
pub struct Atoms {
    pub all: Slab<AtomId, Atom>,
    ids: FnvHashMap<(ScopeId, Needs), AtomId>,
    index: Index<ScopeId, AtomId>,
    /// Those that may have lost their last user.
    idle: Vec<AtomId>,
    version: u64,
    /// Those whose policies are others.
    dirty: Vec<AtomId>,
}

/// A selector of pods of some namespaces.
#[derive(Debug, Default)]
pub struct Atom {
    scope: ScopeId,
    needs: Needs,
    /// Who is selected.
    pub classes: IdSet<ClassId>,
    /// The sets that these are members of by it.
    pub sets: IdSet<SetNo>,
    /// The policies that are for these.
    pub policies: IdSet<PolicyId>,
    /// Another one whenever these are others.
    pub version: u64,
    /// How many of these have names for ports of who is selected.
    pub naming: u32,
    is_dirty: bool,
    users: u32,
}

impl Atoms {
    /// Notes that the policies of a selector are others: they get a version that there never was.
    pub fn renew(&mut self, id: AtomId) {
        self.version += 1;
        self.all[id].version = self.version;
        if !std::mem::replace(&mut self.all[id].is_dirty, true) {
            self.dirty.push(id);
        }
    }

    pub fn hold(&mut self, id: AtomId) {
        self.all[id].users += 1;
    }

    pub fn release(&mut self, id: AtomId) {
        self.all[id].users -= 1;
        if self.all[id].users == 0 {
            self.idle.push(id);
        }
    }
}

impl Atom {
    /// Whether those who are selected have policies by it, or had.
    pub fn decides(&self) -> bool {
        !self.policies.is_empty() || self.is_dirty
    }
}

impl Compiler {
    /// Marks whoever is selected where policies are others.
    pub(super) fn mark_selected(&mut self) {
        for id in std::mem::take(&mut self.atoms.dirty) {
            self.atoms.all[id].is_dirty = false;
            for class in self.atoms.all[id].classes.iter() {
                self.pods.mark(class);
            }
        }
    }

    /// The selector of these pods of a scope. It goes with the next round of changes unless somebody holds it.
    pub(super) fn atom(&mut self, scope: ScopeId, selector: &Selector) -> AtomId {
        let needs = Needs::acquire(&mut self.symbols, selector);
        if let Some(id) = self.atoms.ids.get(&(scope, needs.clone())) {
            needs.release(&mut self.symbols);
            return *id;
        }
        let atom = Atom { scope, needs: needs.clone(), ..Atom::default() };
        let id = self.atoms.all.insert(atom);
        self.atoms.index.add(scope, &needs, id);
        self.spaces.scopes[scope].users += 1;
        for class in self.select(scope, &needs) {
            self.atoms.all[id].classes.insert(class);
            self.pods.classes[class].add_atom(id);
        }
        self.atoms.ids.insert((scope, needs), id);
        self.atoms.idle.push(id);
        id
    }

    /// A policy has a selector.
    pub(super) fn hold_for_policy(&mut self, id: AtomId) {
        self.atoms.hold(id);
        self.spaces.police(self.atoms.all[id].scope, true);
    }

    /// A policy has a selector no longer.
    pub(super) fn release_for_policy(&mut self, id: AtomId) {
        self.atoms.release(id);
        self.spaces.police(self.atoms.all[id].scope, false);
    }

    /// The selector of every pod of every namespace that is known.
    pub(super) fn everything(&mut self) -> AtomId {
        let scope = self.spaces.chosen_scope(&mut self.symbols, &Selector::default());
        self.atom(scope, &Selector::default())
    }

    pub(super) fn is_everything(&self, id: AtomId) -> bool {
        let atom = &self.atoms.all[id];
        atom.needs.is_everything() && self.spaces.scopes[atom.scope].is_everything()
    }

    /// Whoever is selected, found by a label or by the namespaces: whichever are fewer to look at.
    fn select(&self, scope: ScopeId, needs: &Needs) -> Vec<ClassId> {
        let of = &self.spaces.scopes[scope].of;
        let of_scope = || of.namespaces().flat_map(|namespace| self.spaces.all[namespace].classes.iter());
        let matches = |class: &ClassId| needs.matches(&self.pods.classes[*class].traits.labels);
        let Anchor::Values(key, values) = needs.anchor() else {
            return of_scope().filter(matches).collect();
        };
        let of_label = || values.iter().filter_map(|value| self.pods.by_label.get(&(key, *value)));
        let labelled: usize = of_label().map(IdSet::len).sum();
        if of_scope().take(labelled).count() < labelled {
            return of_scope().filter(matches).collect();
        }
        let is_in = |class: &ClassId| of.has(self.pods.classes[*class].traits.namespace);
        of_label().flat_map(IdSet::iter).filter(is_in).filter(matches).collect()
    }

    /// The selectors that select what has these traits, sorted.
    pub(super) fn atoms_of(&self, class: &Class) -> Box<[AtomId]> {
        let (labels, namespace) = (&class.traits.labels, &self.spaces.all[class.traits.namespace]);
        let candidates = namespace.scopes().flat_map(|scope| self.atoms.index.candidates(scope, labels));
        let mut found: Vec<AtomId> = candidates.filter(|id| self.atoms.all[*id].needs.matches(labels)).collect();
        found.sort_unstable();
        found.into()
    }

    /// Drops the selectors that nobody has any more, and the scopes that were only for them.
    pub(super) fn drop_idle_atoms(&mut self) {
        for id in std::mem::take(&mut self.atoms.idle) {
            let is_there =
                self.atoms.ids.get(&(self.atoms.all[id].scope, self.atoms.all[id].needs.clone())) == Some(&id);
            if self.atoms.all[id].users > 0 || !is_there {
                continue;
            }
            let atom = self.atoms.all.remove(id);
            for class in atom.classes.iter() {
                self.pods.classes[class].remove_atom(id);
            }
            self.atoms.index.remove(atom.scope, &atom.needs, id);
            self.spaces.scopes[atom.scope].users -= 1;
            if self.spaces.scopes[atom.scope].users == 0 {
                self.spaces.drop_scope(&mut self.symbols, atom.scope);
            }
            atom.needs.release(&mut self.symbols);
            self.atoms.ids.remove(&(atom.scope, atom.needs));
        }
    }

    /// Bytes that are the same for this selector in every process, and others for others.
    pub(super) fn encode_atom(&self, id: AtomId) -> Vec<u8> {
        let atom = &self.atoms.all[id];
        let symbols: &Symbols = &self.symbols;
        let mut bytes = match &self.spaces.scopes[atom.scope].of {
            Reach::None => Vec::new(),
            Reach::Own(namespace) => [&[0], self.spaces.all[*namespace].name.as_bytes()].concat(),
            Reach::Chosen(needs, _) => [vec![1], needs.encode(symbols)].concat(),
        };
        let length = bytes.len() as u64;
        bytes.extend(atom.needs.encode(symbols));
        bytes.extend(length.to_be_bytes());
        bytes
    }
}
