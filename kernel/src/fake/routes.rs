//! Routes and nexthop objects of the made-up kernel.

use towpath_net::observed::{Nexthop, NexthopId, Route, Target};

use super::{FakeKernel, Outcome};
use crate::kernel::KernelError;

impl FakeKernel {
    pub(super) fn add_route(&mut self, route: &Route) -> Outcome {
        let taken = self.state.routes.iter().any(|r| r.destination == route.destination);
        if taken || self.state.foreign_routes.contains(&route.destination) {
            return Err(KernelError::Exists(route.to_string()));
        }
        self.insert_route(route)
    }

    pub(super) fn replace_route(&mut self, route: &Route) -> Outcome {
        let first = self.state.routes.iter().find(|r| r.destination == route.destination).copied();
        self.insert_route(route)?;
        if let Some(first) = first.filter(|first| first != route) {
            self.state.routes.remove(&first);
        }
        Ok(())
    }

    /// A route that names a nexthop object leads to where that does.
    fn insert_route(&mut self, route: &Route) -> Outcome {
        let target = match &route.target {
            Target::Link { link } => {
                self.link_exists(link)?;
                route.target
            }
            Target::Via(Nexthop { id, .. }) => match self.state.nexthops.get(id) {
                Some(nexthop) => Target::Via(*nexthop),
                None => return Err(KernelError::Gone(format!("nexthop {}", id.0))),
            },
            Target::Blackhole | Target::Other => route.target,
        };
        self.state.routes.insert(Route { destination: route.destination, target });
        Ok(())
    }

    pub(super) fn set_nexthop(&mut self, nexthop: &Nexthop) -> Outcome {
        self.link_exists(&nexthop.link)?;
        if self.state.devices.get(&*nexthop.link).is_some_and(|device| !device.up) {
            return Err(KernelError::Gone(format!("link {} that is up", nexthop.link)));
        }
        self.state.nexthops.insert(nexthop.id, *nexthop);
        for mut route in std::mem::take(&mut self.state.routes) {
            if leads_to(&route, nexthop.id) {
                route.target = Target::Via(*nexthop);
            }
            self.state.routes.insert(route);
        }
        Ok(())
    }

    /// With a nexthop object goes every route that leads to it.
    pub(super) fn remove_nexthop(&mut self, id: NexthopId) -> bool {
        self.state.routes.retain(|route| !leads_to(route, id));
        self.state.nexthops.remove(&id).is_some()
    }

    /// With a link that goes, or goes down, goes everything that leads to it.
    pub(super) fn remove_routes_of(&mut self, link: &str) {
        self.state.nexthops.retain(|_, nexthop| nexthop.link != link);
        self.state.routes.retain(|route| route.target.link() != Some(link));
    }
}

fn leads_to(route: &Route, id: NexthopId) -> bool {
    route.target.nexthop().is_some_and(|nexthop| nexthop.id == id)
}
