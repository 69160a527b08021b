//! What a lab looks like now.

use std::net::IpAddr;

use super::{Lab, LabError};
use crate::{
    component::{Component, ComponentId},
    node::Node,
    process::ProcessId,
};

/// A component and whether it runs.
#[derive(Debug, Clone)]
pub struct ComponentStatus {
    /// Which one.
    pub id: ComponentId,
    /// Its process; `None` when it was stopped on purpose.
    pub process: Option<ProcessId>,
    /// Whether the process is there.
    pub alive: bool,
    /// Its share of resident memory, in bytes.
    pub memory: u64,
}

/// A lab's state.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its components, by space.
    pub components: Vec<ComponentStatus>,
    /// Its nodes and their addresses.
    pub nodes: Vec<(Node, Vec<IpAddr>)>,
    /// How many processes it has in all, pods' included.
    pub processes: usize,
    /// Their resident memory in bytes; what several share counts once.
    pub memory: u64,
}

impl Lab {
    /// Looks at everything that belongs to the lab.
    ///
    /// # Errors
    /// None at present; records that do not read are left out.
    pub fn status(&self) -> Result<Status, LabError> {
        let component = |component: Component| {
            let alive = component.process.is_some_and(ProcessId::alive);
            let memory = component.process.filter(|_| alive).map_or(0, ProcessId::memory);
            ComponentStatus { id: component.id, process: component.process, alive, memory }
        };
        let all: Vec<ProcessId> = self.cgroups.processes(None).into_iter().filter_map(ProcessId::of).collect();
        let addresses = |node: Node| {
            let addresses = node.addresses(&self.config);
            (node, addresses)
        };
        Ok(Status {
            components: Component::all(&self.folder.records()).into_iter().map(component).collect(),
            nodes: self.nodes().into_iter().map(addresses).collect(),
            processes: all.len(),
            memory: all.iter().map(|process| process.memory()).sum(),
        })
    }
}
