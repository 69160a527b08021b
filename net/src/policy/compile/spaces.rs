//! Namespaces, and the scopes of selectors: one namespace, or those that a selector of namespaces chooses.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fnv::FnvHashMap;

use super::Compiler;
use super::ids::{ClassId, IdSet, NamespaceId, PodId, PolicyId, ScopeId, Slab};
use super::index::{self, ByLabel, Index};
use super::selector::{Anchor, Needs};
use super::symbols::{LabelSyms, Symbols};
use crate::policy::input::{Labels, Selector};

/// All namespaces that something is known of, and all scopes.
#[derive(Debug, Default)]
pub struct Spaces {
    pub all: Slab<NamespaceId, Namespace>,
    names: HashMap<Arc<str>, NamespaceId>,
    by_label: ByLabel<NamespaceId>,
    pub scopes: Slab<ScopeId, Scope>,
    chosen: FnvHashMap<Needs, ScopeId>,
    index: Index<(), ScopeId>,
    /// Namespaces that may be policed where they were not, or the other way round.
    pub unjudged: BTreeSet<NamespaceId>,
}

/// A namespace.
#[derive(Debug, Default)]
pub struct Namespace {
    pub name: Arc<str>,
    /// Nothing while only pods or policies of it are known.
    labels: Option<LabelSyms>,
    /// The scope that is this namespace, where a selector has it.
    own: Option<ScopeId>,
    /// The scopes that choose it, sorted.
    chosen_by: Vec<ScopeId>,
    pub classes: IdSet<ClassId>,
    pub pods: HashMap<Arc<str>, PodId>,
    pub policies: HashMap<Arc<str>, PolicyId>,
    /// Whether a selector that a policy has may select pods of it, as it was judged last.
    pub is_policed: bool,
}

/// Namespaces that selectors of pods are for.
#[derive(Debug, Default)]
pub struct Scope {
    pub of: Reach,
    /// How many selectors of pods there are for it.
    pub users: u32,
    /// How often policies have one of these, for their subjects and as peers.
    pub policed: u32,
}

/// Which namespaces those are.
#[derive(Debug, Default)]
pub enum Reach {
    /// It is gone.
    #[default]
    None,
    /// This one.
    Own(NamespaceId),
    /// These, by their labels.
    Chosen(Needs, IdSet<NamespaceId>),
}

impl Reach {
    pub fn namespaces(&self) -> impl Iterator<Item = NamespaceId> {
        let (own, chosen) = match self {
            Self::None => (None, None),
            Self::Own(namespace) => (Some(*namespace), None),
            Self::Chosen(_, namespaces) => (None, Some(namespaces)),
        };
        own.into_iter().chain(chosen.into_iter().flat_map(IdSet::iter))
    }

    pub fn has(&self, namespace: NamespaceId) -> bool {
        match self {
            Self::None => false,
            Self::Own(own) => *own == namespace,
            Self::Chosen(_, namespaces) => namespaces.contains(namespace),
        }
    }
}

impl Namespace {
    /// The scopes that it is of.
    pub fn scopes(&self) -> impl Iterator<Item = ScopeId> {
        self.own.iter().chain(&self.chosen_by).copied()
    }

    fn is_unused(&self) -> bool {
        let is_empty = self.pods.is_empty() && self.policies.is_empty() && self.classes.is_empty();
        is_empty && self.labels.is_none() && self.own.is_none()
    }
}

impl Spaces {
    /// How many namespaces and scopes there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.all.len() + self.scopes.len() + self.by_label.len()
    }

    pub fn find(&self, name: &str) -> Option<NamespaceId> {
        self.names.get(name).copied()
    }

    /// The namespace of a name; one of which nothing else is known where there was none.
    pub fn get(&mut self, name: &str) -> NamespaceId {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let name: Arc<str> = name.into();
        let id = self.all.insert(Namespace { name: Arc::clone(&name), ..Namespace::default() });
        self.names.insert(name, id);
        id
    }

    /// Forgets a namespace of which nothing is known any more.
    pub fn tidy(&mut self, id: NamespaceId) {
        if self.all[id].is_unused() && self.names.remove(&self.all[id].name).is_some() {
            self.all.remove(id);
        }
    }

    /// The scope that is one namespace.
    pub fn own_scope(&mut self, namespace: NamespaceId) -> ScopeId {
        let scopes = &mut self.scopes;
        *self.all[namespace]
            .own
            .get_or_insert_with(|| scopes.insert(Scope { of: Reach::Own(namespace), ..Scope::default() }))
    }

    /// The scope of the namespaces that a selector chooses.
    pub fn chosen_scope(&mut self, symbols: &mut Symbols, selector: &Selector) -> ScopeId {
        let needs = Needs::acquire(symbols, selector);
        if let Some(id) = self.chosen.get(&needs) {
            needs.release(symbols);
            return *id;
        }
        let namespaces = self.choose(&needs);
        let mut set = IdSet::default();
        for namespace in &namespaces {
            set.insert(*namespace);
        }
        let id = self.scopes.insert(Scope { of: Reach::Chosen(needs.clone(), set), ..Scope::default() });
        for namespace in namespaces {
            let chosen_by = &mut self.all[namespace].chosen_by;
            let at = chosen_by.partition_point(|other| *other < id);
            chosen_by.insert(at, id);
        }
        self.index.add((), &needs, id);
        self.chosen.insert(needs, id);
        id
    }

    fn choose(&self, needs: &Needs) -> Vec<NamespaceId> {
        let matches = |id: &NamespaceId| self.all[*id].labels.as_ref().is_some_and(|labels| needs.matches(labels));
        match needs.anchor() {
            Anchor::Values(key, values) => {
                let found = values.iter().filter_map(|value| self.by_label.get(&(key, *value)));
                found.flat_map(IdSet::iter).filter(matches).collect()
            }
            Anchor::Key(_) | Anchor::None => self.names.values().copied().filter(matches).collect(),
        }
    }

    /// Counts that a policy has a selector of a scope, or (`false`) no longer.
    pub fn police(&mut self, id: ScopeId, has: bool) {
        let policed = &mut self.scopes[id].policed;
        let before = *policed;
        *policed = if has { before + 1 } else { before - 1 };
        if (before == 0) != (*policed == 0) {
            self.unjudged.extend(self.scopes[id].of.namespaces());
        }
    }

    /// Drops a scope that no selector of pods is for.
    pub fn drop_scope(&mut self, symbols: &mut Symbols, id: ScopeId) {
        match self.scopes.remove(id).of {
            Reach::None => {}
            Reach::Own(namespace) => {
                self.all[namespace].own = None;
                self.tidy(namespace);
            }
            Reach::Chosen(needs, namespaces) => {
                for namespace in namespaces.iter() {
                    self.all[namespace].chosen_by.retain(|other| *other != id);
                }
                self.index.remove((), &needs, id);
                self.chosen.remove(&needs);
                needs.release(symbols);
            }
        }
    }

    /// Gives a namespace other labels (nothing where it is gone), and tells whether other scopes have it than before.
    fn relabel(&mut self, symbols: &mut Symbols, id: NamespaceId, labels: Option<LabelSyms>) -> bool {
        let mut scopes: Vec<ScopeId> = labels.as_ref().map_or_else(Vec::new, |labels| {
            let candidates = self.index.candidates((), labels);
            candidates.filter(|scope| self.scopes[*scope].chooses(labels)).collect()
        });
        scopes.sort_unstable();
        let before = std::mem::replace(&mut self.all[id].labels, labels);
        for label in before.iter().flatten() {
            index::remove(&mut self.by_label, *label, id);
        }
        symbols.release_labels(before.as_deref().unwrap_or_default());
        for label in self.all[id].labels.iter().flatten() {
            self.by_label.entry(*label).or_default().insert(id);
        }
        let before = std::mem::replace(&mut self.all[id].chosen_by, scopes);
        for scope in before.iter().filter(|scope| !self.all[id].chosen_by.contains(scope)) {
            if let Reach::Chosen(_, namespaces) = &mut self.scopes[*scope].of {
                namespaces.remove(id);
            }
        }
        for scope in self.all[id].chosen_by.iter().filter(|scope| !before.contains(scope)) {
            if let Reach::Chosen(_, namespaces) = &mut self.scopes[*scope].of {
                namespaces.insert(id);
            }
        }
        before != self.all[id].chosen_by
    }
}

impl Scope {
    fn chooses(&self, labels: &[(super::ids::Sym, super::ids::Sym)]) -> bool {
        matches!(&self.of, Reach::Chosen(needs, _) if needs.matches(labels))
    }

    /// Whether every namespace is in it.
    pub fn is_everything(&self) -> bool {
        matches!(&self.of, Reach::Chosen(needs, _) if needs.is_everything())
    }
}

impl Compiler {
    /// Takes in what a namespace is, or (nothing) that it is gone.
    pub(super) fn set_namespace(&mut self, name: &str, labels: Option<&Labels>) {
        let id = match labels {
            Some(_) => self.spaces.get(name),
            None => match self.spaces.find(name) {
                Some(id) => id,
                None => return,
            },
        };
        let labels = labels.map(|labels| self.symbols.acquire_labels(labels));
        if labels == self.spaces.all[id].labels {
            self.symbols.release_labels(labels.as_deref().unwrap_or_default());
        } else if self.spaces.relabel(&mut self.symbols, id, labels) {
            self.spaces.unjudged.insert(id);
            let classes: Vec<ClassId> = self.spaces.all[id].classes.iter().collect();
            for class in classes {
                self.match_again(class);
            }
        }
        self.spaces.tidy(id);
    }
}
