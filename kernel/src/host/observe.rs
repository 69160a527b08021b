//! What the kernel has, in the terms of the model.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use towpath_net::Family;
use towpath_net::device::{BRIDGE, Device, DeviceKind, is_device};
use towpath_net::lease::{NODE_LINK_LOCAL, is_host_interface};
use towpath_net::link_name::LinkName;
use towpath_net::observed::{
    Address, Forwarding, Link, Neighbour, Nexthop, NexthopId, Observed, Route, Station, Subnet, Surroundings, Sysctl,
    Target,
};

use super::HostKernel;
use crate::kernel::KernelError;
use crate::link::Index;
use crate::link::port::Port;
use crate::route::{ROUTE_PROTOCOL, default_metric};
use crate::{address, fdb, link, neighbour, nexthop, route};

type Stations = BTreeMap<Station, Forwarding>;

/// The names of links by their numbers.
pub(super) type Names<'a> = BTreeMap<Index, &'a str>;

impl HostKernel {
    pub(super) fn read(&mut self, sysctls: &BTreeSet<Sysctl>) -> Result<Observed, KernelError> {
        let links = link::list(&mut self.routes)?;
        let addresses = address::list(&mut self.routes)?;
        let names = names(&links);
        self.spread.clear();
        let mut observed = Observed { table: self.nft.read()?, ..Observed::default() };
        for key in sysctls {
            observed.sysctls.extend(self.sysctls.read(key)?.map(|value| (key.clone(), value)));
        }
        let bridge = links.iter().find(|link| link.name == BRIDGE).map(|link| link.index);
        for seen in &links {
            if is_host_interface(&seen.name) {
                observed.links.insert(seen.name.clone(), link(seen, bridge));
            } else if is_device(&seen.name) {
                observed.devices.insert(seen.name.clone(), device(seen));
                self.read_device(seen, &names, &mut observed)?;
            }
        }
        observed.addresses = ours(&addresses, &names);
        let mut ways = self.read_nexthops(&names)?;
        self.read_routes(&names, &mut ways, &mut observed)?;
        (observed.nexthops, self.foreign, self.bent) = (ways.ours, ways.foreign, ways.bent);
        let ciphers = observed.devices.iter().filter(|(_, device)| device.kind == DeviceKind::WireGuard);
        observed.ciphers = self.ciphers.read(ciphers.map(|(name, _)| name.as_str()))?;
        observed.surroundings = surroundings(&links, &addresses);
        Ok(observed)
    }

    pub(super) fn read_nexthops(&mut self, names: &Names<'_>) -> Result<Ways, KernelError> {
        let mut ways = Ways::default();
        let mut ours = Vec::new();
        for seen in nexthop::list(&mut self.routes)? {
            if seen.protocol != ROUTE_PROTOCOL {
                ways.foreign.insert(seen.id);
                continue;
            }
            if seen.special {
                ways.bent.insert(seen.id);
            }
            let way = seen.way.and_then(|way| Some((way, *names.get(&way.link)?)));
            ours.push((seen.id, way.map_or_else(|| bent(seen.id), |(way, link)| model(seen.id, way, link))));
        }
        ways.ours = ours.into_iter().collect();
        Ok(ways)
    }

    /// Reads what somebody set on a device that frames pass.
    fn read_device(
        &mut self,
        seen: &link::Link,
        names: &Names<'_>,
        observed: &mut Observed,
    ) -> Result<(), KernelError> {
        if seen.mac.is_none() {
            return Ok(());
        }
        let link = seen.name.as_str().into();
        let known = neighbour::permanent_of(&mut self.routes, seen.index)?.into_iter();
        let known = known.map(|known| (Neighbour { link, address: known.address }, known.mac));
        observed.neighbours.append(&mut known.collect());
        match seen.device {
            Some(DeviceKind::Vxlan { .. }) => self.read_tunnel(seen, &mut observed.stations),
            Some(DeviceKind::Bridge) => self.read_ports(seen, names, &mut observed.stations),
            _ => Ok(()),
        }
    }

    fn read_tunnel(&mut self, seen: &link::Link, stations: &mut Stations) -> Result<(), KernelError> {
        let link = seen.name.as_str().into();
        let mut entries = fdb::of_tunnel(&mut self.routes, seen.index)?;
        entries.sort_unstable_by_key(|entry| entry.mac);
        let of_one =
            entries.chunk_by(|a, b| a.mac == b.mac).filter_map(|entries| Some((entries.first()?, entries.len())));
        let mut found: Stations = of_one
            .map(|(entry, count)| {
                let station = Station { link, mac: entry.mac };
                let to = entry.to.filter(|_| count == 1).map(Forwarding::To);
                if to.is_none() {
                    self.spread.insert(station);
                }
                // A tunnel has no ports: equal to nothing that is wanted.
                (station, to.unwrap_or(Forwarding::Port))
            })
            .collect();
        stations.append(&mut found);
        Ok(())
    }

    fn read_ports(
        &mut self,
        bridge: &link::Link,
        names: &Names<'_>,
        stations: &mut Stations,
    ) -> Result<(), KernelError> {
        for entry in fdb::of_bridge(&mut self.routes, bridge.index)? {
            if let Some(link) = names.get(&entry.link).filter(|link| is_host_interface(link)) {
                stations.insert(Station { link: (*link).into(), mac: entry.mac }, Forwarding::Port);
            }
        }
        Ok(())
    }

    fn read_routes(&mut self, names: &Names<'_>, ways: &mut Ways, observed: &mut Observed) -> Result<(), KernelError> {
        let mut ours = Vec::new();
        for seen in route::list(&mut self.routes)? {
            if seen.protocol == ROUTE_PROTOCOL {
                // Somebody wrote over one of ours: no route of ours leads to another's.
                if let Some(id) = seen.nexthop.filter(|id| id.is_ours() && ways.foreign.remove(id)) {
                    ways.ours.insert(id, bent(id));
                }
                let target = ways.target(&seen, names);
                ours.push(Route { destination: seen.destination, target });
            } else if seen.metric == default_metric(Family::of_net(&seen.destination)) {
                observed.foreign_routes.insert(seen.destination);
            }
        }
        observed.routes = ours.into_iter().collect();
        Ok(())
    }
}

/// The nexthop objects of a node.
#[derive(Default)]
pub(super) struct Ways {
    ours: BTreeMap<NexthopId, Nexthop>,
    foreign: BTreeSet<NexthopId>,
    /// Those of ours that have to be made anew, and take their routes with them.
    bent: BTreeSet<NexthopId>,
}

impl Ways {
    /// Where a route of ours leads.
    pub(super) fn target(&self, seen: &route::Route, names: &Names<'_>) -> Target {
        let plain = seen.metric == default_metric(Family::of_net(&seen.destination)) && !seen.complex;
        if !plain || seen.source.is_some() {
            return Target::Other;
        }
        if let Some(id) = seen.nexthop {
            let nexthop = self.ours.get(&id).filter(|_| !self.bent.contains(&id));
            return nexthop.map_or(Target::Other, |nexthop| Target::Via(*nexthop));
        }
        let link = seen.link.and_then(|index| names.get(&index)).map(|name| LinkName::from(*name));
        match (seen.kind, seen.gateway, link) {
            (route::Kind::Unicast, None, Some(link)) => Target::Link { link },
            (route::Kind::Blackhole, None, None) => Target::Blackhole,
            _ => Target::Other,
        }
    }
}

/// The names of all links.
pub(super) fn names(links: &[link::Link]) -> Names<'_> {
    links.iter().map(|link| (link.index, link.name.as_str())).collect()
}

/// What a pod's link is. One that somebody made part of something else is of no use, as if it were down: setting it up
/// takes it out of there.
fn link(seen: &link::Link, bridge: Option<Index>) -> Link {
    let bridged = bridge.is_some() && seen.master == bridge && seen.port == Some(Port::OF_POD);
    Link { up: seen.up && (bridged || seen.master.is_none()), mtu: seen.mtu, bridged }
}

fn device(seen: &link::Link) -> Device {
    let kind = seen.device.clone().unwrap_or(DeviceKind::Other);
    Device { kind, mac: seen.mac, mtu: seen.mtu, up: seen.up }
}

fn model(id: NexthopId, way: nexthop::Way, link: &str) -> Nexthop {
    let nexthop::Way { gateway, on_link, encapsulation, .. } = way;
    Nexthop { id, gateway, link: link.into(), on_link, encapsulation }
}

/// What somebody made of one of ours that we would never make: equal to nothing that is wanted.
fn bent(id: NexthopId) -> Nexthop {
    let gateway = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    Nexthop { id, gateway, link: LinkName::default(), on_link: false, encapsulation: None }
}

/// The addresses of our links, but for those that the kernel gave them by itself.
fn ours(addresses: &[address::Address], names: &Names<'_>) -> BTreeSet<Address> {
    let on_links = addresses.iter().filter_map(|seen| Some((*names.get(&seen.link)?, seen.address)));
    let ours = on_links.filter(|(link, address)| {
        let is_kernels = is_link_local(*address) && address.addr() != NODE_LINK_LOCAL;
        !is_kernels && (is_host_interface(link) || is_device(link))
    });
    ours.map(|(link, address)| Address { link: link.into(), address }).collect()
}

/// The kernel may give a link such an address by itself.
fn is_link_local(address: IpNet) -> bool {
    matches!(address, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

/// The subnets of links that are up and not Towpath's.
fn surroundings(links: &[link::Link], addresses: &[address::Address]) -> Surroundings {
    let outside = links.iter().filter(|l| l.up && !l.loopback && !is_host_interface(&l.name) && !is_device(&l.name));
    let subnets = outside.flat_map(|l| {
        let held = addresses.iter().filter(|a| a.link == l.index && a.usable && !is_link_local(a.address));
        held.map(|a| Subnet { link: l.name.clone(), address: a.address, mtu: l.mtu })
    });
    Surroundings { subnets: subnets.collect() }
}
