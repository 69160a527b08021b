//! Pods, in classes of those that every selector selects alike: replicas differ by address alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use fnv::FnvBuildHasher;

use super::Compiler;
use super::ids::{AtomId, ClassId, IdSet, NamespaceId, NodeId, PodId, RecipeId, Slab, Sym, differing};
use super::index::{self, ByLabel};
use super::sets::Owner;
use super::symbols::LabelSyms;
use crate::lease::Protocol;
use crate::policy::input::{self, Key, Labels, NamedPort};
use crate::state::NodeName;

/// A port that has a name.
pub type PortSym = (Sym, Protocol, u16);

/// All pods that have a network of their own.
#[derive(Debug, Default)]
pub struct Pods {
    pub all: Slab<PodId, Pod>,
    pub classes: Slab<ClassId, Class>,
    ids: HashMap<Arc<Traits>, ClassId, FnvBuildHasher>,
    pub by_label: ByLabel<ClassId>,
    /// Classes whose policies may be others than before.
    pub dirty: Vec<ClassId>,
}

/// A pod.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    pub name: Arc<str>,
    pub uid: Box<str>,
    pub class: ClassId,
    pub node: Option<NodeId>,
    pub addresses: Box<[IpAddr]>,
}

/// What makes pods alike.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct Traits {
    pub namespace: NamespaceId,
    pub labels: LabelSyms,
    /// Sorted.
    pub ports: Box<[PortSym]>,
}

/// Pods that are alike. There is one as long as it has pods.
#[derive(Debug, Default)]
pub struct Class {
    pub traits: Arc<Traits>,
    pub pods: IdSet<PodId>,
    /// The selectors that select it, sorted.
    pub atoms: Box<[AtomId]>,
    /// Its policies; nothing where none selects it.
    pub recipe: Option<RecipeId>,
    pub is_dirty: bool,
}

impl Class {
    pub fn add_atom(&mut self, id: AtomId) {
        let mut atoms = std::mem::take(&mut self.atoms).into_vec();
        let at = atoms.partition_point(|other| *other < id);
        atoms.insert(at, id);
        self.atoms = atoms.into();
    }

    pub fn remove_atom(&mut self, id: AtomId) {
        let mut atoms = std::mem::take(&mut self.atoms).into_vec();
        atoms.retain(|other| *other != id);
        self.atoms = atoms.into();
    }
}

impl Pods {
    pub fn mark(&mut self, class: ClassId) {
        if !std::mem::replace(&mut self.classes[class].is_dirty, true) {
            self.dirty.push(class);
        }
    }
}

impl Compiler {
    /// The pod of a namespace and name.
    pub(super) fn find_pod(&self, key: &Key) -> Option<PodId> {
        let namespace = self.spaces.find(&key.namespace)?;
        self.spaces.all[namespace].pods.get(key.name.as_str()).copied()
    }

    /// The same, where it is of this `metadata.uid` and on this node.
    pub(super) fn find_pod_of(&self, key: &Key, uid: &str, node: &NodeName) -> Option<PodId> {
        let is_it = |pod: &Pod| *pod.uid == *uid && pod.node.is_some_and(|is| self.nodes.all[is].name == *node);
        self.find_pod(key).filter(|id| is_it(&self.pods.all[*id]))
    }

    /// Takes in what a pod is.
    pub(super) fn set_pod(&mut self, pod: input::Pod) {
        if pod.is_host_network || pod.is_ended {
            return self.drop_pod(&pod.key);
        }
        let namespace = self.spaces.get(&pod.key.namespace);
        let known = self.spaces.all[namespace].pods.get(pod.key.name.as_str()).copied();
        let class = self.class(namespace, &pod.labels, &pod.ports);
        let node = pod.node.as_ref().map(|name| self.nodes.get(name));
        let name = match known {
            Some(id) => Arc::clone(&self.pods.all[id].name),
            None => pod.key.name.into(),
        };
        let now = Pod { name: Arc::clone(&name), uid: pod.uid.into(), class, node, addresses: pod.addresses.into() };
        if let Some(id) = known {
            self.change_pod(id, now);
        } else {
            self.touch_all(class, &now.addresses);
            let id = self.pods.all.insert(now);
            self.spaces.all[namespace].pods.insert(name, id);
            self.enter(id);
        }
    }

    /// Takes in that a pod is gone, or has no network of its own (any more).
    pub(super) fn drop_pod(&mut self, key: &Key) {
        let Some(id) = self.find_pod(key) else { return };
        let pod = self.pods.all[id].clone();
        let namespace = self.pods.classes[pod.class].traits.namespace;
        self.touch_all(pod.class, &pod.addresses);
        self.leave(id);
        self.pods.all.remove(id);
        self.spaces.all[namespace].pods.remove(&pod.name);
        self.drop_class_if_empty(pod.class);
        self.nodes.tidy(pod.node);
        self.spaces.tidy(namespace);
    }

    /// Takes in which addresses a pod has, without anything else of it. Nothing happens where it is not this pod, or on
    /// another node; tells whether it is.
    pub(super) fn set_pod_addresses(&mut self, key: &Key, uid: &str, node: &NodeName, addresses: &[IpAddr]) -> bool {
        let Some(id) = self.find_pod_of(key, uid, node) else { return false };
        let now = Pod { addresses: addresses.into(), ..self.pods.all[id].clone() };
        self.change_pod(id, now);
        true
    }

    fn change_pod(&mut self, id: PodId, now: Pod) {
        let before = self.pods.all[id].clone();
        let (has_moved, is_another) = (before.node != now.node, before.uid != now.uid);
        let (is_other, has_others) = (before.class != now.class, before.addresses != now.addresses);
        if !has_moved && !is_another && !is_other && !has_others {
            return;
        }
        if (is_other || has_others) && self.sets.are_told() {
            self.touch_change(&before, &now);
        }
        self.leave(id);
        self.pods.all[id] = now;
        self.enter(id);
        if is_other {
            self.drop_class_if_empty(before.class);
        }
        if has_moved {
            self.nodes.tidy(before.node);
        }
    }

    /// Remembers who is a member before a pod changes: only of the sets that may be concerned.
    fn touch_change(&mut self, before: &Pod, now: &Pod) {
        let [old, new] = [before, now].map(|pod| &self.pods.classes[pod.class]);
        if before.addresses == now.addresses && old.traits.ports == new.traits.ports {
            let atoms = differing(&old.atoms, &new.atoms);
            self.touch_pod(&atoms, before.class, &before.addresses);
        } else {
            self.touch_all(before.class, &before.addresses);
            self.touch_all(now.class, &now.addresses);
        }
    }

    /// The same for a pod that comes or goes.
    fn touch_all(&mut self, class: ClassId, addresses: &[IpAddr]) {
        if self.sets.are_told() {
            self.touch_pod(&self.pods.classes[class].atoms.clone(), class, addresses);
        }
    }

    fn enter(&mut self, id: PodId) {
        let pod = &self.pods.all[id];
        self.pods.classes[pod.class].pods.insert(id);
        for address in &pod.addresses {
            self.sets.own(*address, Owner::Pod(id));
        }
        if let Some(node) = pod.node {
            self.nodes.all[node].pods.insert(id);
            self.arrive(id);
        }
    }

    fn leave(&mut self, id: PodId) {
        if self.pods.all[id].node.is_some() {
            self.depart(id);
        }
        let pod = &self.pods.all[id];
        if let Some(node) = pod.node {
            self.nodes.all[node].pods.remove(id);
        }
        for address in &pod.addresses {
            self.sets.disown(*address, Owner::Pod(id));
        }
        self.pods.classes[pod.class].pods.remove(id);
    }

    /// The class of pods with these traits.
    fn class(&mut self, namespace: NamespaceId, labels: &Labels, ports: &[NamedPort]) -> ClassId {
        let labels = self.symbols.acquire_labels(labels);
        let mut ports: Vec<PortSym> =
            ports.iter().map(|port| (self.symbols.acquire(&port.name), port.protocol, port.port)).collect();
        ports.sort_unstable();
        let traits = Traits { namespace, labels, ports: ports.into() };
        if let Some(id) = self.pods.ids.get(&traits) {
            let id = *id;
            self.release_traits(&traits);
            return id;
        }
        let traits = Arc::new(traits);
        let mut class = Class { traits: Arc::clone(&traits), ..Class::default() };
        class.atoms = self.atoms_of(&class);
        let atoms = class.atoms.clone();
        let id = self.pods.classes.insert(class);
        for atom in atoms {
            self.atoms.all[atom].classes.insert(id);
        }
        for label in &traits.labels {
            self.pods.by_label.entry(*label).or_default().insert(id);
        }
        self.spaces.all[namespace].classes.insert(id);
        self.pods.ids.insert(traits, id);
        self.pods.mark(id);
        id
    }

    fn release_traits(&mut self, traits: &Traits) {
        self.symbols.release_labels(&traits.labels);
        for (name, ..) in &traits.ports {
            self.symbols.release(*name);
        }
    }

    fn drop_class_if_empty(&mut self, id: ClassId) {
        if !self.pods.classes[id].pods.is_empty() {
            return;
        }
        let class = self.pods.classes.remove(id);
        for atom in &class.atoms {
            self.atoms.all[*atom].classes.remove(id);
        }
        for label in &class.traits.labels {
            index::remove(&mut self.pods.by_label, *label, id);
        }
        self.spaces.all[class.traits.namespace].classes.remove(id);
        self.pods.ids.remove(&class.traits);
        self.release_traits(&class.traits);
        if let Some(recipe) = class.recipe {
            self.profiles.release_recipe(recipe);
        }
    }

    /// Finds the selectors of a class again, behind a change of its namespace.
    pub(super) fn match_again(&mut self, id: ClassId) {
        let now = self.atoms_of(&self.pods.classes[id]);
        let changed = differing(&self.pods.classes[id].atoms, &now);
        if changed.is_empty() {
            return;
        }
        if self.sets.are_told() {
            let pods: Vec<PodId> = self.pods.classes[id].pods.iter().collect();
            for pod in pods {
                let addresses = self.pods.all[pod].addresses.clone();
                self.touch_pod(&changed, id, &addresses);
            }
        }
        for atom in &changed {
            let classes = &mut self.atoms.all[*atom].classes;
            if now.contains(atom) { classes.insert(id) } else { classes.remove(id) }
        }
        if changed.iter().any(|atom| self.atoms.all[*atom].decides()) {
            self.pods.mark(id);
        }
        self.pods.classes[id].atoms = now;
    }
}
