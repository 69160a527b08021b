//! Operations, as requests to the kernel: as many as possible in one system call.

use ipnet::IpNet;
use towpath_net::device::{BRIDGE, Device, DeviceKind, is_device};
use towpath_net::nft::Element;
use towpath_net::observed::{Forwarding, Link, Nexthop, Route, Station, Sysctl, Target};
use towpath_net::ops::Op;

use super::HostKernel;
use super::ciphers::is_cipher;
use super::observe::names;
use crate::kernel::KernelError;
use crate::link::Index;
use crate::link::port::Port;
use crate::netlink::{Cause, Error, Request};
use crate::nexthop::{self, Way};
use crate::route::ROUTE_PROTOCOL;
use crate::{address, fdb, link, neighbour, route};

/// There where the filters of IP can see what passes a bridge.
const BRIDGE_FILTERS: &str = "net/bridge/bridge-nf-call-iptables";

/// What became of an operation.
pub(super) type Outcome = Result<(), KernelError>;

impl HostKernel {
    pub(super) fn execute_all(&mut self, ops: &[Op]) -> Vec<Outcome> {
        self.indexes.clear();
        let mut outcomes = Vec::with_capacity(ops.len());
        let mut rest = ops;
        while let Some((first, others)) = rest.split_first() {
            let together = rest.iter().take_while(|op| is_request(op)).count();
            let of_ciphers = rest.iter().take_while(|op| is_cipher(op)).count();
            let of_sets = rest.iter().take_while(|op| change(op).is_some()).count();
            if of_ciphers > 0 {
                let (these, others) = rest.split_at(of_ciphers);
                self.ciphers.execute(these, &mut outcomes);
                rest = others;
            } else if of_sets > 0 {
                let (these, others) = rest.split_at(of_sets);
                self.change_sets(these, &mut outcomes);
                rest = others;
            } else if together == 0 {
                outcomes.push(self.execute(first));
                rest = others;
            } else {
                let (these, others) = rest.split_at(together);
                self.execute_together(these, &mut outcomes);
                rest = others;
            }
        }
        outcomes
    }

    /// Changes of sets, in one transaction: each takes the kernel long. Where it refuses one, each goes by itself.
    fn change_sets(&mut self, ops: &[Op], outcomes: &mut Vec<Outcome>) {
        if ops.len() > 1 && self.nft.change(ops.iter().filter_map(change)).is_ok() {
            outcomes.extend(ops.iter().map(|_| Ok(())));
        } else {
            outcomes.extend(ops.iter().map(|op| Ok(self.nft.change(change(op))?)));
        }
    }

    /// Operations that are requests on the socket for links and routes, and that name no link made by one of them.
    fn execute_together(&mut self, ops: &[Op], outcomes: &mut Vec<Outcome>) {
        let mut requests = Vec::with_capacity(ops.len());
        let mut counts = Vec::with_capacity(ops.len());
        for op in ops {
            counts.push(self.requests(op).map(|of_this| {
                let count = of_this.len();
                requests.extend(of_this);
                count
            }));
        }
        let mut answers = self.routes.execute_each(&requests).into_iter();
        for (op, count) in ops.iter().zip(counts) {
            let answer = count.and_then(|count| {
                let answers: Vec<_> = answers.by_ref().take(count).collect();
                answers.into_iter().collect::<Result<(), _>>().map_err(KernelError::from)
            });
            outcomes.push(match (op, answer) {
                // The address is there, which is what was wanted.
                (Op::AddAddress(_), Err(KernelError::Netlink(error))) if error.is_taken() => Ok(()),
                (_, answer) => answer,
            });
        }
    }

    /// The requests that an operation of [`is_request`] consists of.
    fn requests(&mut self, op: &Op) -> Result<Vec<Request>, KernelError> {
        Ok(match op {
            Op::DeleteRoute(unwanted) => vec![route::deleting(&self.encode(unwanted)?)],
            Op::AddRoute(wanted) => vec![route::adding(&self.encode(wanted)?)],
            Op::ReplaceRoute(wanted) => vec![route::replacing(&self.encode(wanted)?)],
            Op::DeleteAddress(unwanted) => vec![address::deleting(self.index_of(&unwanted.link)?, unwanted.address)],
            Op::AddAddress(wanted) => vec![address::adding(self.index_of(&wanted.link)?, wanted.address)],
            Op::SetLink { name, link } => self.setting_link(name, *link)?,
            Op::SetDevice { name, device } => vec![self.setting_device(name, device)?],
            Op::SetNeighbour { neighbour: at, mac } => {
                vec![neighbour::setting(self.index_of(&at.link)?, at.address, *mac)]
            }
            Op::DeleteNeighbour(at) => vec![neighbour::deleting(self.index_of(&at.link)?, at.address)],
            Op::SetStation { station, to } => self.setting_station(station, *to)?,
            Op::DeleteStation { station, .. } => vec![self.deleting_station(station)?],
            Op::SetNexthop(wanted) => self.setting_nexthop(wanted)?,
            Op::DeleteNexthop(unwanted) => vec![nexthop::deleting(unwanted.id)],
            _ => Vec::new(),
        })
    }

    fn setting_link(&mut self, name: &str, link: Link) -> Result<Vec<Request>, KernelError> {
        let index = self.index_of(name)?;
        let master = if link.bridged { self.index_of(BRIDGE)? } else { link::NO_MASTER };
        let (up, mtu, master) = (Some(link.up), Some(link.mtu), Some(master));
        let change = link::changing(index, link::Change { up, mtu, master, ..link::Change::default() });
        // The port is there only when the link belongs to the bridge.
        let port = link.bridged.then(|| Port::OF_POD.setting(index));
        Ok([change].into_iter().chain(port).collect())
    }

    fn setting_device(&mut self, name: &str, device: &Device) -> Result<Request, KernelError> {
        let seen = link::find(&mut self.routes, name)?.ok_or_else(|| KernelError::Gone(format!("link {name}")))?;
        Ok(link::device::setting(&seen, device))
    }

    fn setting_station(&mut self, station: &Station, to: Forwarding) -> Result<Vec<Request>, KernelError> {
        let link = self.index_of(&station.link)?;
        let Forwarding::To(node) = to else { return Ok(vec![link::port::placing(link, station.mac)]) };
        // The kernel would exchange one of the nodes, and leave the others.
        let spread = self.spread.contains(station).then(|| fdb::deleting(link, station.mac, fdb::Table::Tunnel));
        Ok(spread.into_iter().chain([fdb::setting(link, station.mac, node)]).collect())
    }

    fn deleting_station(&mut self, station: &Station) -> Result<Request, KernelError> {
        let table = if is_device(&station.link) { fdb::Table::Tunnel } else { fdb::Table::Bridge };
        Ok(fdb::deleting(self.index_of(&station.link)?, station.mac, table))
    }

    /// The kernel never makes an ordinary nexthop of one that is a group, say.
    fn setting_nexthop(&mut self, wanted: &Nexthop) -> Result<Vec<Request>, KernelError> {
        if self.foreign.contains(&wanted.id) {
            return Err(KernelError::Exists(format!("nexthop {}", wanted.id.0)));
        }
        let link = self.index_of(&wanted.link)?;
        let Nexthop { gateway, on_link, encapsulation, .. } = *wanted;
        let made = nexthop::setting(wanted.id, &Way { link, gateway, on_link, encapsulation });
        let bent = self.bent.contains(&wanted.id).then(|| nexthop::deleting(wanted.id));
        Ok(bent.into_iter().chain([made]).collect())
    }

    /// The number of a link. It is asked for once in a plan: what makes links or removes them comes to [`Self::execute`].
    pub(super) fn index_of(&mut self, name: &str) -> Result<Index, KernelError> {
        if let Some(index) = self.indexes.get(name) {
            return Ok(*index);
        }
        let found = link::find(&mut self.routes, name)?;
        let index = found.map(|link| link.index).ok_or_else(|| KernelError::Gone(format!("link {name}")))?;
        self.indexes.insert(name.to_owned(), index);
        Ok(index)
    }

    fn encode(&mut self, wanted: &Route) -> Result<route::Route, KernelError> {
        let to = wanted.destination;
        Ok(match &wanted.target {
            Target::Via(nexthop) => route::Route::by(to, nexthop.id, ROUTE_PROTOCOL),
            Target::Link { link } => route::Route::on_link(to, self.index_of(link)?, ROUTE_PROTOCOL),
            Target::Blackhole => route::Route::blackhole(to, ROUTE_PROTOCOL),
            Target::Other => return self.find_other(to),
        })
    }

    /// A route of ours that somebody bent into something that we never make: only the kernel knows what it is.
    fn find_other(&mut self, to: IpNet) -> Result<route::Route, KernelError> {
        let links = link::list(&mut self.routes)?;
        let names = names(&links);
        let ways = self.read_nexthops(&names)?;
        let found = route::list(&mut self.routes)?
            .into_iter()
            .find(|r| r.protocol == ROUTE_PROTOCOL && r.destination == to && ways.target(r, &names) == Target::Other);
        found.ok_or_else(|| KernelError::Gone(format!("route {to}")))
    }

    fn make_device(&mut self, name: &str, device: &Device, anew: bool) -> Outcome {
        let is_bridge = device.kind == DeviceKind::Bridge;
        if is_bridge && self.sysctls.read(&Sysctl(BRIDGE_FILTERS.to_owned()))?.is_none() {
            return Err(KernelError::Unsupported { feature: "filters for bridges", module: "br_netfilter" });
        }
        self.indexes.remove(name);
        if anew {
            link::delete(&mut self.routes, name)?;
        }
        let made = link::device::making(name, device).ok_or_else(|| KernelError::Gone(format!("link {name}")))?;
        self.routes.execute(&made).map_err(|error| unsupported(error, &device.kind))?;
        if is_bridge {
            let set = self.setting_device(name, device)?;
            self.routes.execute(&set)?;
        }
        Ok(())
    }

    /// Operations that stand alone.
    fn execute(&mut self, op: &Op) -> Outcome {
        match op {
            Op::DeleteLink(name) | Op::DeleteDevice(name) => {
                self.indexes.remove(name);
                link::delete(&mut self.routes, name)?;
            }
            Op::MakeDevice { name, device, anew } => self.make_device(name, device, *anew)?,
            Op::SetSysctl { key, value } => {
                self.sysctl_writes += 1;
                self.sysctls.write(key, value)?;
            }
            Op::ReplaceTable(table) => self.nft.replace(table)?,
            Op::DeleteTable => self.nft.delete()?,
            other => return Err(KernelError::Gone(other.object())),
        }
        Ok(())
    }
}

/// The name of a set, and what is to be added and removed.
fn change(op: &Op) -> Option<(&str, &[Element], &[Element])> {
    match op {
        Op::ChangeSet { set, add, remove } => Some((set, add, remove)),
        _ => None,
    }
}

/// What the kernel says where it does not know a kind of link.
fn unsupported(error: Error, kind: &DeviceKind) -> KernelError {
    // Of a kind that it knows, it says what of it is not supported.
    let unknown = matches!(
        &error.cause,
        Cause::Refused { errno: rustix::io::Errno::OPNOTSUPP, explanation }
            if explanation.as_deref().is_none_or(|words| words == "Unknown device type")
    );
    match link::device::module(kind).filter(|_| unknown) {
        Some((feature, module)) => KernelError::Unsupported { feature, module },
        None => error.into(),
    }
}

/// Whether an operation is a request on the socket for links and routes, and can go with others.
const fn is_request(op: &Op) -> bool {
    matches!(
        op,
        Op::DeleteRoute(_)
            | Op::AddRoute(_)
            | Op::ReplaceRoute(_)
            | Op::DeleteAddress(_)
            | Op::AddAddress(_)
            | Op::SetLink { .. }
            | Op::SetDevice { .. }
            | Op::SetNeighbour { .. }
            | Op::DeleteNeighbour(_)
            | Op::SetStation { .. }
            | Op::DeleteStation { .. }
            | Op::SetNexthop(_)
            | Op::DeleteNexthop(_)
    )
}
