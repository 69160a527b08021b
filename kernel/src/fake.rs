//! A kernel made up for tests: it refuses what the real one refuses, and fails on demand.

use std::collections::BTreeSet;

use towpath_net::nft::Element;
use towpath_net::observed::{Observed, Route, Sysctl, Target};
use towpath_net::ops::Op;

use crate::kernel::{Kernel, KernelError};

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

    fn add_route(&mut self, route: &Route) -> Result<(), KernelError> {
        let taken = self.state.routes.iter().any(|r| r.destination == route.destination);
        if taken || self.state.foreign_routes.contains(&route.destination) {
            return Err(KernelError::Exists(route.to_string()));
        }
        self.insert_route(route)
    }

    fn insert_route(&mut self, route: &Route) -> Result<(), KernelError> {
        match &route.target {
            Target::Link { link } => self.link_exists(link)?,
            Target::Via(nexthop) if !self.state.nexthops.contains_key(&nexthop.id) => {
                return Err(KernelError::Gone(format!("nexthop {}", nexthop.id.0)));
            }
            Target::Via(_) | Target::Blackhole | Target::Other => {}
        }
        self.state.routes.insert(route.clone());
        Ok(())
    }

    fn replace_route(&mut self, route: &Route) -> Result<(), KernelError> {
        let first = self.state.routes.iter().find(|r| r.destination == route.destination).cloned();
        self.insert_route(route)?;
        if let Some(first) = first {
            self.state.routes.remove(&first);
        }
        Ok(())
    }

    fn link_exists(&self, link: &str) -> Result<(), KernelError> {
        let found = self.state.links.contains_key(link);
        found.then_some(()).ok_or_else(|| KernelError::Gone(format!("link {link}")))
    }

    fn change_set(&mut self, name: &str, add: &[Element], remove: &[Element]) -> Result<(), KernelError> {
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

    fn apply(&mut self, op: &Op) -> Result<(), KernelError> {
        let number = self.tried;
        self.tried += 1;
        if self.fails_at == Some(number) || self.dies_at.is_some_and(|last| number >= last) {
            return Err(KernelError::Injected(op.to_string()));
        }
        self.execute(op)?;
        self.writes += 1;
        Ok(())
    }

    fn execute(&mut self, op: &Op) -> Result<(), KernelError> {
        let gone = || KernelError::Gone(op.object());
        match op {
            Op::DeleteRoute(route) => self.state.routes.remove(route).then_some(()).ok_or_else(gone),
            Op::DeleteLink(name) => {
                self.state.addresses.retain(|address| address.link != *name);
                self.state.routes.retain(|route| route.target != Target::Link { link: name.clone() });
                self.state.links.remove(name).map(|_| ()).ok_or_else(gone)
            }
            Op::DeleteAddress(address) => self.state.addresses.remove(address).then_some(()).ok_or_else(gone),
            Op::SetSysctl { key, value } => {
                self.state.sysctls.insert(key.clone(), value.clone());
                Ok(())
            }
            Op::SetLink { name, link } => {
                self.link_exists(name)?;
                self.state.links.insert(name.clone(), *link);
                Ok(())
            }
            Op::AddAddress(address) => {
                self.link_exists(&address.link)?;
                self.state.addresses.insert(address.clone());
                Ok(())
            }
            Op::SetNexthop(nexthop) => {
                self.state.nexthops.insert(nexthop.id, nexthop.clone());
                let leads = |route: &Route| route.target.nexthop().is_some_and(|old| old.id == nexthop.id);
                let moved: Vec<Route> = self.state.routes.iter().filter(|route| leads(route)).cloned().collect();
                self.state.routes.retain(|route| !leads(route));
                let target = Target::Via(nexthop.clone());
                self.state.routes.extend(moved.into_iter().map(|route| Route { target: target.clone(), ..route }));
                Ok(())
            }
            Op::DeleteNexthop(nexthop) => {
                self.state.routes.retain(|route| route.target.nexthop().is_none_or(|old| old.id != nexthop.id));
                self.state.nexthops.remove(&nexthop.id).map(|_| ()).ok_or_else(gone)
            }
            Op::AddRoute(route) => self.add_route(route),
            Op::ReplaceRoute(route) => self.replace_route(route),
            Op::ReplaceTable(table) => {
                self.state.table = Some(table.clone());
                Ok(())
            }
            Op::ChangeSet { set, add, remove } => self.change_set(set, add, remove),
            Op::DeleteTable => self.state.table.take().map(|_| ()).ok_or_else(gone),
            _ => Err(gone()),
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
