//! The kernel of this network namespace.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use towpath_net::Family;
use towpath_net::lease::{Lease, NODE_LINK_LOCAL, Phase, is_host_interface};
use towpath_net::observed::{Address, Link, Observed, Route, Subnet, Surroundings, Sysctl, Target};
use towpath_net::ops::Op;
use towpath_net::sweep::Scope;

use crate::kernel::{Kernel, KernelError};
use crate::leases::{Attempt, Store};
use crate::link::Index;
use crate::netlink::{Protocol, Socket};
use crate::nft::Nft;
use crate::release::{self, Sight, Swept};
use crate::route::{ROUTE_PROTOCOL, default_metric};
use crate::shaping::{self, Direction};
use crate::sysctl::Sysctls;
use crate::{address, link, route};

/// The kernel of the network namespace that it was opened in.
pub struct HostKernel {
    routes: Socket,
    nft: Nft,
    sysctls: Sysctls,
    sysctl_writes: u64,
}

impl HostKernel {
    /// Opens the kernel of the current network namespace, with the settings below `sysctls`.
    pub fn open(sysctls: Sysctls) -> Result<Self, KernelError> {
        Ok(Self { routes: Socket::open(Protocol::Route)?, nft: Nft::open()?, sysctls, sysctl_writes: 0 })
    }

    /// Ends every attachment of this node that nobody needs any more and nobody works on.
    pub fn sweep(&mut self, leases: &Store) -> Result<Swept, release::Error> {
        release::sweep_node(leases, &mut self.routes, &Scope::Node, Sight::Own)
    }

    /// Sets the limits of a pod anew that somebody altered, and tells which; those of a pod that somebody works on are
    /// left alone.
    pub fn mend_limits(&mut self, leases: &Store, lease: &Lease) -> Result<Vec<Direction>, shaping::Error> {
        match leases.try_hold(&lease.attachment()) {
            Ok(Attempt::Held(held)) if held.lease == *lease && lease.phase == Phase::Ready => {
                shaping::mend(&mut self.routes, lease)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn index_of(&mut self, name: &str) -> Result<Index, KernelError> {
        let found = link::find(&mut self.routes, name)?;
        found.map(|link| link.index).ok_or_else(|| KernelError::Gone(format!("link {name}")))
    }

    fn encode(&mut self, wanted: &Route) -> Result<route::Route, KernelError> {
        let to = wanted.destination;
        Ok(match &wanted.target {
            Target::Via(way) => route::Route::via(to, way.gateway, self.index_of(&way.link)?, ROUTE_PROTOCOL),
            Target::Link { link } => route::Route::on_link(to, self.index_of(link)?, ROUTE_PROTOCOL),
            Target::Blackhole => route::Route::blackhole(to, ROUTE_PROTOCOL),
            Target::Other => return self.find_other(to),
        })
    }

    /// A route of ours that somebody bent into something that we never make: only the kernel knows what it is.
    fn find_other(&mut self, to: IpNet) -> Result<route::Route, KernelError> {
        let names = BTreeMap::new();
        let all = route::list(&mut self.routes)?;
        let found = all
            .into_iter()
            .find(|r| r.protocol == ROUTE_PROTOCOL && r.destination == to && target(r, &names) == Target::Other);
        found.ok_or_else(|| KernelError::Gone(format!("route {to}")))
    }

    fn delete_route(&mut self, unwanted: &Route) -> Result<(), KernelError> {
        let route = self.encode(unwanted)?;
        Ok(route::delete(&mut self.routes, &route)?)
    }

    fn execute(&mut self, op: &Op) -> Result<(), KernelError> {
        match op {
            Op::DeleteRoute(route) => self.delete_route(route)?,
            Op::DeleteLink(name) => link::delete(&mut self.routes, name)?,
            Op::DeleteAddress(unwanted) => {
                let index = self.index_of(&unwanted.link)?;
                address::delete(&mut self.routes, index, unwanted.address)?;
            }
            Op::SetSysctl { key, value } => {
                self.sysctl_writes += 1;
                self.sysctls.write(key, value)?;
            }
            Op::SetLink { name, link } => {
                let index = self.index_of(name)?;
                let change = link::Change { up: Some(link.up), mtu: Some(link.mtu), ..link::Change::default() };
                link::change(&mut self.routes, index, change)?;
            }
            Op::AddAddress(wanted) => {
                let index = self.index_of(&wanted.link)?;
                address::add(&mut self.routes, index, wanted.address)?;
            }
            Op::AddRoute(wanted) => {
                let route = self.encode(wanted)?;
                route::add(&mut self.routes, &route)?;
            }
            Op::ReplaceRoute(wanted) => {
                let route = self.encode(wanted)?;
                route::replace(&mut self.routes, &route)?;
            }
            Op::ReplaceTable(table) => self.nft.replace(table)?,
            Op::ChangeSet { set, add, remove } => self.nft.change([(set.as_str(), &add[..], &remove[..])])?,
            Op::DeleteTable => self.nft.delete()?,
            other => return Err(KernelError::Gone(other.object())),
        }
        Ok(())
    }
}

impl Kernel for HostKernel {
    fn observe(&mut self, sysctls: &BTreeSet<Sysctl>) -> Result<Observed, KernelError> {
        let links = link::list(&mut self.routes)?;
        let addresses = address::list(&mut self.routes)?;
        let routes = route::list(&mut self.routes)?;
        let names: BTreeMap<Index, &str> = links.iter().map(|l| (l.index, l.name.as_str())).collect();
        let mut observed = Observed { table: self.nft.read()?, ..Observed::default() };
        for key in sysctls {
            observed.sysctls.extend(self.sysctls.read(key)?.map(|value| (key.clone(), value)));
        }
        for link in links.iter().filter(|l| is_host_interface(&l.name)) {
            observed.links.insert(link.name.clone(), Link { up: link.up, mtu: link.mtu, bridged: false });
        }
        for seen in &addresses {
            if let Some(link) = names.get(&seen.link).filter(|name| is_host_interface(name))
                && (!is_link_local(seen.address) || seen.address.addr() == NODE_LINK_LOCAL)
            {
                observed.addresses.insert(Address { link: (*link).to_owned(), address: seen.address });
            }
        }
        for seen in &routes {
            if seen.protocol == ROUTE_PROTOCOL {
                observed.routes.insert(Route { destination: seen.destination, target: target(seen, &names) });
            } else if seen.metric == default_metric(Family::of_net(&seen.destination)) {
                observed.foreign_routes.insert(seen.destination);
            }
        }
        observed.surroundings = surroundings(&links, &addresses);
        Ok(observed)
    }

    fn apply(&mut self, op: &Op) -> Result<(), KernelError> {
        self.execute(op)
    }

    fn writes(&self) -> u64 {
        self.routes.writes() + self.nft.writes() + self.sysctl_writes
    }
}

/// The kernel may give a link such an address by itself.
fn is_link_local(address: IpNet) -> bool {
    matches!(address, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

fn target(seen: &route::Route, names: &BTreeMap<Index, &str>) -> Target {
    let plain = seen.metric == default_metric(Family::of_net(&seen.destination)) && !seen.complex;
    let link = seen.link.and_then(|index| names.get(&index)).map(|name| (*name).to_owned());
    match (seen.kind, seen.gateway, link) {
        (route::Kind::Unicast, None, Some(link)) if plain && seen.source.is_none() => Target::Link { link },
        (route::Kind::Blackhole, None, None) if plain => Target::Blackhole,
        _ => Target::Other,
    }
}

/// The subnets of links that are up and not Towpath's.
fn surroundings(links: &[link::Link], addresses: &[address::Address]) -> Surroundings {
    let outside = links.iter().filter(|l| l.up && !l.loopback && !is_host_interface(&l.name));
    let subnets = outside.flat_map(|l| {
        let held = addresses.iter().filter(|a| a.link == l.index && a.usable && !is_link_local(a.address));
        held.map(|a| Subnet { link: l.name.clone(), address: a.address, mtu: l.mtu })
    });
    Surroundings { subnets: subnets.collect() }
}
