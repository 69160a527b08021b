//! The kernel's part of an attachment: one module for each mode, with what both ends of the pair have as data. What ADD
//! makes of it, CHECK compares. Both families alike.

pub mod bridge;
mod link_local;
mod routed;

use std::net::IpAddr;
use std::os::fd::AsFd;

use ipnet::IpNet;
use towpath_kernel::link::port::{self, Port};
use towpath_kernel::link::{self, Change, Index, VethPair};
use towpath_kernel::netlink::{self, Protocol, Request, Socket};
use towpath_kernel::netns::{self, Namespace};
use towpath_kernel::route::{self, BOOT, ROUTE_PROTOCOL, Route};
use towpath_kernel::sysctl::{self, Sysctls};
use towpath_kernel::{address, neighbour};
use towpath_net::device::BRIDGE;
use towpath_net::lease::{Ends, Lease, LeasedAddress};
use towpath_net::mac::Mac;
use towpath_net::observed::Sysctl;
use towpath_net::state::Attachment;
use towpath_net::{Family, alias};

use crate::ready;

/// Why a pod could not be wired.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pod has a link of that name.
    #[error("the pod has an interface {0} already; it was left as it is")]
    InterfaceTaken(String),
    /// The node has a link of the name that the pair would get.
    #[error("link {0} exists without a lease: something is attached under this container id; DEL removes it")]
    LinkTaken(String),
    /// The bridge is not there.
    #[error("the node agent has not made the bridge {BRIDGE} yet; is its pod running on this node?")]
    NoBridge,
    /// The bridge is not the pod's gateway.
    #[error("the node agent has not given the bridge {BRIDGE} the gateway {0} yet; is its pod running on this node?")]
    NoGateway(IpAddr),
    /// Another pod on the bridge has the address.
    #[error("a pod on the bridge {BRIDGE} has address {0}, though no lease says so")]
    AddressTaken(IpAddr),
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// The kernel refused something on the node's side.
    #[error("on the node: {0}")]
    Node(#[source] netlink::Error),
    /// The kernel refused something on the pod's side.
    #[error("in the pod: {0}")]
    Pod(#[source] netlink::Error),
    /// A setting could not be written.
    #[error(transparent)]
    Sysctl(#[from] sysctl::Error),
    /// The kernel has not set the pair up in good time.
    #[error(transparent)]
    NotReady(ready::Error),
    /// A link that was just made has gone.
    #[error("link {0} was removed while it was set up")]
    Gone(String),
}

impl Error {
    /// Whether something of the node has an address that was to be the pod's.
    pub fn is_taken(&self) -> bool {
        match self {
            Self::Node(cause) => cause.is_taken(),
            Self::AddressTaken(_) => true,
            _ => false,
        }
    }
}

/// What both ends of a pair have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// The node's end. Its addresses, routes and neighbours are on the link that packets to the pod leave by.
    pub node: End,
    /// The pod's end.
    pub pod: End,
}

/// What one end of a pair has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its routes, each behind those that it needs.
    pub routes: Vec<Way>,
    /// Who is at the other end.
    pub neighbours: Vec<Known>,
    /// Whether it answers for addresses that are not its own (`proxy_arp`).
    pub answers_for_others: bool,
    /// What it is like as a port of the bridge, where it is one.
    pub port: Option<Port>,
}

/// Somebody at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// An address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Whether the kernel is told, or finds out when it asks.
    pub for_good: bool,
}

/// A route, but for the link that it leads over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where to.
    pub destination: IpNet,
    /// By way of whom; nobody where the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The source address of packets that are sent from here.
    pub source: Option<IpAddr>,
}

impl Way {
    const fn on_link(destination: IpNet) -> Self {
        Self { destination, gateway: None, source: None }
    }

    const fn via(destination: IpNet, gateway: IpAddr) -> Self {
        Self { destination, gateway: Some(gateway), source: None }
    }

    fn over(self, link: Index, protocol: route::Protocol) -> Route {
        let route = match self.gateway {
            Some(gateway) => Route::via(self.destination, gateway, link, protocol),
            None => Route::on_link(self.destination, link, protocol),
        };
        Route { source: self.source, ..route }
    }
}

impl Wiring {
    /// Of a lease, by its mode.
    pub fn of(lease: &Lease) -> Self {
        match lease.mode {
            Attachment::Routed => routed::of(lease),
            Attachment::LinkLocal => link_local::of(lease),
            Attachment::Bridge => bridge::of(lease),
        }
    }

    /// The node's routes to the pod.
    pub fn node_routes(&self, link: Index) -> Vec<Route> {
        self.node.routes.iter().map(|way| way.over(link, ROUTE_PROTOCOL)).collect()
    }

    /// The pod's routes.
    pub fn pod_routes(&self, eth0: Index) -> Vec<Route> {
        self.pod.routes.iter().map(|way| way.over(eth0, BOOT)).collect()
    }
}

/// What every attachment has.
fn wiring(lease: &Lease) -> Wiring {
    let macs = lease.macs();
    let known = |mac: Mac, address: fn(&LeasedAddress) -> IpAddr| {
        let addresses = lease.addresses.iter().map(address);
        addresses.map(|address| Known { address, mac, for_good: false }).collect()
    };
    let end = |mac, addresses, neighbours| End {
        mac,
        addresses,
        routes: Vec::new(),
        neighbours,
        answers_for_others: false,
        port: None,
    };
    let pods = lease.addresses.iter().map(|leased| leased.address).collect();
    Wiring {
        node: end(macs.node, lease.node_addresses(), known(macs.pod, |leased| leased.address.addr())),
        pod: end(macs.pod, pods, known(macs.node, |leased| leased.gateway)),
    }
}

/// The node's routes where each pod has a link of its own.
fn to_pods(lease: &Lease) -> Vec<Way> {
    lease.addresses.iter().map(|leased| Way::on_link(leased.host())).collect()
}

/// The way to everything else.
fn default(leased: &LeasedAddress) -> Way {
    Way::via(Family::of(leased.gateway).everything(), leased.gateway)
}

/// The links of an attachment, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    /// The ends of the pair, each in its own namespace.
    pub ends: Ends<Index>,
    /// The bridge, of a pod that is behind it.
    pub bridge: Option<Index>,
}

impl Links {
    /// The node's link that packets to the pod leave by.
    fn node_link(&self) -> Index {
        self.bridge.unwrap_or(self.ends.node)
    }
}

/// Makes the pair. After an error there is nothing of it.
pub fn create(node: &mut Socket, lease: &Lease, namespace: &Namespace) -> Result<Links, Error> {
    let bridge = if lease.mode == Attachment::Bridge { Some(bridge::ready(node, lease)?) } else { None };
    let macs = lease.macs();
    let pair = VethPair {
        name: &lease.host_interface,
        mac: macs.node,
        peer_name: &lease.interface,
        peer_mac: macs.pod,
        peer_namespace: namespace.as_fd(),
        mtu: lease.mtu,
        bridge,
    };
    let error = match link::create_veth(node, &pair) {
        Ok(ends) => return Ok(Links { ends, bridge }),
        Err(error) => error,
    };
    // A namespace of another kind is only found out when it is used.
    namespace.visit(|| ())?;
    if !error.is_taken() {
        return Err(Error::Node(error));
    }
    match link::find(node, pair.name).map_err(Error::Node)? {
        Some(_) => Err(Error::LinkTaken(lease.host_interface.clone())),
        None => Err(Error::InterfaceTaken(lease.interface.clone())),
    }
}

/// Sets both ends of the pair up.
pub fn set_up(node: &mut Socket, lease: &Lease, namespace: &Namespace, links: Links) -> Result<(), Error> {
    let wiring = Wiring::of(lease);
    set_up_node(node, lease, &wiring, links)?;
    let eth0 = links.ends.pod;
    let mut pod = namespace.visit(|| set_up_pod(lease, &wiring, eth0))??;
    let ready = ready::wait_for_addresses(&mut pod, &lease.interface, eth0, wiring.pod.addresses);
    ready.map_err(|error| not_ready(error, Error::Pod))?;
    // The node's end was up before it had another end that was: only now the kernel begins to use it, and then a bridge
    // that it is the first port of.
    let ready = ready::wait_for_link(node, &lease.host_interface)
        .and_then(|()| ready::wait_for_link(node, lease.node_link()))
        .and_then(|()| ready::wait_for_addresses(node, lease.node_link(), links.node_link(), wiring.node.addresses));
    ready.map_err(|error| not_ready(error, Error::Node))
}

fn not_ready(error: ready::Error, side: impl FnOnce(netlink::Error) -> Error) -> Error {
    match error {
        ready::Error::Netlink(error) => side(error),
        ready::Error::NotReady(..) => Error::NotReady(error),
    }
}

fn set_up_node(node: &mut Socket, lease: &Lease, wiring: &Wiring, links: Links) -> Result<(), Error> {
    let (veth, link) = (links.ends.node, links.node_link());
    let alias = alias::write(lease);
    let no_generated_addresses = quiet_ipv6(lease, &lease.host_interface)?;
    let proxy_arp = Some(wiring.node.answers_for_others);
    let settings = Change { alias: Some(&alias), no_generated_addresses, proxy_arp, ..Change::default() };
    // All in one system call: where many pods come at once, whoever asks for less waits less.
    let mut requests = vec![link::changing(veth, settings)];
    if let Some(port) = wiring.node.port {
        requests.extend([port.setting(veth), port::placing(veth, wiring.pod.mac)]);
    }
    requests.push(setting_up(veth));
    requests.extend(wiring.node.addresses.iter().map(|net| address::adding(link, *net)));
    requests.extend(meeting(&wiring.node, link));
    requests.extend(wiring.node_routes(link).iter().map(route::adding));
    node.execute_all(&requests).map_err(Error::Node)
}

/// Runs inside the pod's namespace; returns a socket of it.
fn set_up_pod(lease: &Lease, wiring: &Wiring, eth0: Index) -> Result<Socket, Error> {
    let mut pod = Socket::open(Protocol::Route).map_err(Error::Pod)?;
    quiet_ipv6(lease, &lease.interface)?;
    let addresses = wiring.pod.addresses.iter();
    let mut requests: Vec<Request> = addresses.map(|net| address::adding(eth0, *net)).collect();
    requests.push(setting_up(eth0));
    requests.extend(meeting(&wiring.pod, eth0));
    // A second interface of the pod leads to the same destinations.
    requests.extend(wiring.pod_routes(eth0).iter().map(route::appending));
    pod.execute_all(&requests).map_err(Error::Pod)?;
    Ok(pod)
}

fn setting_up(link: Index) -> Request {
    link::changing(link, Change { up: Some(true), ..Change::default() })
}

/// Makes an end know for good who is at the other.
fn meeting(end: &End, link: Index) -> impl Iterator<Item = Request> {
    let told = end.neighbours.iter().filter(|known| known.for_good);
    told.map(move |known| neighbour::setting(link, known.address, known.mac))
}

/// Makes an end take no advice from routers, and have IPv6 where the pod has; tells whether the kernel has IPv6.
fn quiet_ipv6(lease: &Lease, interface: &str) -> Result<bool, sysctl::Error> {
    let sysctls = Sysctls::below(sysctl::ROOT);
    let key = |name| Sysctl(format!("net/ipv6/conf/{interface}/{name}"));
    if lease.addresses.iter().all(|leased| Family::of(leased.gateway) == Family::V4) {
        return sysctls.write_existing(&key("accept_ra"), "0");
    }
    sysctls.write(&key("accept_ra"), "0")?;
    sysctls.ensure(&key("disable_ipv6"), "0").map(|_| true)
}
