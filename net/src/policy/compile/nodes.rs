//! Nodes: as peers of policies, as where pods are, and as those who are told.

use std::collections::HashMap;
use std::net::IpAddr;

use fnv::FnvHashMap;

use super::Compiler;
use super::ids::{GroupId, IdSet, NodeId, PodId, SetNo, Slab, differing};
use super::index::Index;
use super::selector::Needs;
use super::sets::Owner;
use super::symbols::LabelSyms;
use super::views::View;
use crate::policy::input::{self, Selector};
use crate::state::NodeName;

/// All nodes that something is known of, and the selectors of nodes.
#[derive(Debug, Default)]
pub struct Nodes {
    pub all: Slab<NodeId, Node>,
    names: HashMap<NodeName, NodeId>,
    pub groups: Slab<GroupId, Group>,
    group_ids: FnvHashMap<Needs, GroupId>,
    index: Index<(), GroupId>,
    /// Groups that may have lost their last user.
    idle: Vec<GroupId>,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    pub name: NodeName,
    /// Nothing while only its name is known.
    labels: Option<LabelSyms>,
    pub addresses: Box<[IpAddr]>,
    /// The selectors that select it, sorted.
    pub groups: Box<[GroupId]>,
    pub pods: IdSet<PodId>,
    /// What it is told; nothing where it is not subscribed.
    pub view: Option<Box<View>>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: NodeName(String::new()),
            labels: None,
            addresses: Box::default(),
            groups: Box::default(),
            pods: IdSet::default(),
            view: None,
        }
    }
}

/// A selector of nodes.
#[derive(Debug, Default)]
pub struct Group {
    needs: Needs,
    pub nodes: IdSet<NodeId>,
    pub sets: IdSet<SetNo>,
    users: u32,
}

impl Nodes {
    pub fn find(&self, name: &NodeName) -> Option<NodeId> {
        self.names.get(name).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.names.values().map(|id| &self.all[*id])
    }

    /// The node of a name; one of which nothing else is known where there was none.
    pub fn get(&mut self, name: &NodeName) -> NodeId {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let id = self.all.insert(Node { name: name.clone(), ..Node::default() });
        self.names.insert(name.clone(), id);
        id
    }

    /// Forgets a node of which nothing is known any more.
    pub fn tidy(&mut self, id: Option<NodeId>) {
        let Some(id) = id else { return };
        let node = &self.all[id];
        if node.labels.is_none() && node.pods.is_empty() && node.view.is_none() {
            self.names.remove(&node.name);
            self.all.remove(id);
        }
    }

    /// The nodes that are told, by name.
    pub fn subscribed(&self) -> Vec<NodeId> {
        self.names.values().copied().filter(|id| self.all[*id].view.is_some()).collect()
    }

    pub fn hold_group(&mut self, id: GroupId) {
        self.groups[id].users += 1;
    }

    pub fn release_group(&mut self, id: GroupId) {
        self.groups[id].users -= 1;
        if self.groups[id].users == 0 {
            self.idle.push(id);
        }
    }
}

impl Compiler {
    /// The selector of these nodes. It goes with the next round of changes unless somebody holds it.
    pub(super) fn group(&mut self, selector: &Selector) -> GroupId {
        let needs = Needs::acquire(&mut self.symbols, selector);
        if let Some(id) = self.nodes.group_ids.get(&needs) {
            needs.release(&mut self.symbols);
            return *id;
        }
        let id = self.nodes.groups.insert(Group { needs: needs.clone(), ..Group::default() });
        let all: Vec<NodeId> = self.nodes.names.values().copied().collect();
        for node in all {
            let entry = &mut self.nodes.all[node];
            if entry.labels.as_ref().is_some_and(|labels| needs.matches(labels)) {
                let at = entry.groups.partition_point(|other| *other < id);
                let mut groups = std::mem::take(&mut entry.groups).into_vec();
                groups.insert(at, id);
                entry.groups = groups.into();
                self.nodes.groups[id].nodes.insert(node);
            }
        }
        self.nodes.index.add((), &needs, id);
        self.nodes.group_ids.insert(needs, id);
        self.nodes.idle.push(id);
        id
    }

    /// Drops the selectors of nodes that nobody has any more.
    pub(super) fn drop_idle_groups(&mut self) {
        for id in std::mem::take(&mut self.nodes.idle) {
            let is_there = self.nodes.group_ids.get(&self.nodes.groups[id].needs) == Some(&id);
            if self.nodes.groups[id].users > 0 || !is_there {
                continue;
            }
            let group = self.nodes.groups.remove(id);
            for node in group.nodes.iter() {
                let entry = &mut self.nodes.all[node];
                entry.groups = entry.groups.iter().copied().filter(|other| *other != id).collect();
            }
            self.nodes.index.remove((), &group.needs, id);
            group.needs.release(&mut self.symbols);
            self.nodes.group_ids.remove(&group.needs);
        }
    }

    pub(super) fn encode_group(&self, id: GroupId) -> Vec<u8> {
        self.nodes.groups[id].needs.encode(&self.symbols)
    }

    /// Takes in what a node is.
    pub(super) fn set_node(&mut self, node: input::Node) {
        let id = self.nodes.get(&node.name);
        let labels = self.symbols.acquire_labels(&node.labels);
        self.change_node(id, Some(labels), node.addresses.into());
    }

    /// Takes in that a node is gone. Its pods stay until they are gone themselves.
    pub(super) fn drop_node(&mut self, name: &NodeName) {
        if let Some(id) = self.nodes.find(name) {
            self.change_node(id, None, Box::default());
            self.nodes.tidy(Some(id));
        }
    }

    fn change_node(&mut self, id: NodeId, labels: Option<LabelSyms>, addresses: Box<[IpAddr]>) {
        let mut groups: Vec<GroupId> = labels.as_ref().map_or_else(Vec::new, |labels| {
            let candidates = self.nodes.index.candidates((), labels);
            candidates.filter(|group| self.nodes.groups[*group].needs.matches(labels)).collect()
        });
        groups.sort_unstable();
        let before = &self.nodes.all[id];
        let (had, was_in) = (before.addresses.clone(), before.groups.clone());
        let changed = differing(&was_in, &groups);
        if had == addresses {
            self.touch_node(&changed, &had);
        } else {
            self.touch_node(&was_in, &had);
            self.touch_node(&groups, &addresses);
        }
        for group in changed {
            let nodes = &mut self.nodes.groups[group].nodes;
            if groups.contains(&group) { nodes.insert(id) } else { nodes.remove(id) }
        }
        for address in &had {
            self.sets.disown(*address, Owner::Node(id));
        }
        for address in &addresses {
            self.sets.own(*address, Owner::Node(id));
        }
        let node = &mut self.nodes.all[id];
        (node.addresses, node.groups) = (addresses, groups.into());
        let before = std::mem::replace(&mut node.labels, labels);
        self.symbols.release_labels(before.as_deref().unwrap_or_default());
    }
}
