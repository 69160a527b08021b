//! A kernel made up for tests: it refuses what the real one refuses, and fails on demand.

mod devices;
mod routes;

use std::collections::BTreeSet;

use towpath_net::device::is_device;
use towpath_net::lease::is_host_interface;
use towpath_net::nft::Element;
use towpath_net::observed::{Address, Observed, Sysctl};
use towpath_net::ops::Op;

use crate::kernel::{Kernel, KernelError};

/// What became of an operation.
type Outcome = Result<(), KernelError>;

/// A kernel in memory.
#[derive(Clone, Debug, Default)]
pub struct FakeKernel {
    /// What it has.
    pub state: Observed,
    /// Which operation fails, counted from 0.
    pub fails_at: Option<u64>,
    /// After which operation everything fails, as if the process were gone.
    pub dies_at: Option<u64>,
    tried: u64,
    writes: u64,
}

impl FakeKernel {
    /// A kernel that has `state`.
    pub fn with(state: Observed) -> Self {
        Self { state, ..Self::default() }
    }

    /// Whether packets can leave by a link: those that are not Towpath's are taken to be there.
    fn link_exists(&self, name: &str) -> Outcome {
        let (links, devices) = (&self.state.links, &self.state.devices);
        let ours = is_host_interface(name) || is_device(name);
        let found = !ours || links.contains_key(name) || devices.contains_key(name);
        found.then_some(()).ok_or_else(|| KernelError::Gone(format!("link {name}")))
    }

    fn add_address(&mut self, address: &Address) -> Outcome {
        self.link_exists(&address.link)?;
        self.state.addresses.insert(*address);
        Ok(())
    }

    fn set_sysctl(&mut self, key: &Sysctl, value: &str) -> Outcome {
        key.link().map_or(Ok(()), |link| self.link_exists(link))?;
        self.state.sysctls.insert(key.clone(), value.to_owned());
        Ok(())
    }

    fn change_set(&mut self, name: &str, add: &[Element], remove: &[Element]) -> Outcome {
        let set = self.state.table.as_mut().and_then(|table| table.sets.get_mut(name));
        let set = set.ok_or_else(|| KernelError::Gone(format!("set {name}")))?;
        if let Some(missing) = remove.iter().find(|element| !set.elements.contains(element)) {
            return Err(KernelError::Gone(format!("{missing:?} of set {name}")));
        }
        for element in remove {
            set.elements.remove(element);
        }
        set.elements.extend(add.iter().cloned());
        Ok(())
    }

    fn apply(&mut self, op: &Op) -> Outcome {
        let number = self.tried;
        self.tried += 1;
        if self.fails_at == Some(number) || self.dies_at.is_some_and(|last| number >= last) {
            return Err(KernelError::Injected(op.to_string()));
        }
        self.execute(op)?;
        self.writes += 1;
        Ok(())
    }

    fn execute(&mut self, op: &Op) -> Outcome {
        let there = |found: bool| found.then_some(()).ok_or_else(|| KernelError::Gone(op.object()));
        match op {
            Op::DeleteRoute(route) => there(self.state.routes.remove(route)),
            Op::AddRoute(route) => self.add_route(route),
            Op::ReplaceRoute(route) => self.replace_route(route),
            Op::SetNexthop(nexthop) => self.set_nexthop(nexthop),
            Op::DeleteNexthop(nexthop) => there(self.remove_nexthop(nexthop.id)),
            Op::DeleteLink(name) | Op::DeleteDevice(name) => there(self.remove_link(name)),
            Op::MakeDevice { name, device, anew } => self.make_device(name, device, *anew),
            Op::SetDevice { name, device } => self.set_device(name, device),
            Op::SetLink { name, link } => self.set_link(name, *link),
            Op::DeleteAddress(address) => there(self.state.addresses.remove(address)),
            Op::AddAddress(address) => self.add_address(address),
            Op::SetSysctl { key, value } => self.set_sysctl(key, value),
            Op::SetNeighbour { neighbour, mac } => self.set_neighbour(neighbour, *mac),
            Op::DeleteNeighbour(neighbour) => there(self.state.neighbours.remove(neighbour).is_some()),
            Op::SetStation { station, to } => self.set_station(station, *to),
            Op::DeleteStation { station, .. } => there(self.state.stations.remove(station).is_some()),
            Op::SetCipher { link, key, port } => self.set_cipher(link, *key, *port),
            Op::SetCipherPeer { link, key, peer } => self.set_cipher_peer(link, *key, peer),
            Op::DeleteCipherPeer { link, key } => there(self.remove_cipher_peer(link, *key)),
            Op::ReplaceTable(table) => {
                self.state.table = Some(table.clone());
                Ok(())
            }
            Op::ChangeSet { set, add, remove } => self.change_set(set, add, remove),
            Op::DeleteTable => there(self.state.table.take().is_some()),
        }
    }
}

impl Kernel for FakeKernel {
    fn observe(&mut self, sysctls: &BTreeSet<Sysctl>) -> Result<Observed, KernelError> {
        let mut observed = self.state.clone();
        observed.sysctls.retain(|key, _| sysctls.contains(key));
        Ok(observed)
    }

    fn apply_all(&mut self, ops: &[Op]) -> Vec<Result<(), KernelError>> {
        ops.iter().map(|op| self.apply(op)).collect()
    }

    fn writes(&self) -> u64 {
        self.writes
    }
}
