//! The kernel's part of an attachment of mode `Routed`.
//!
//! ```text
//! node                                       pod
//! tow...  GATEWAY/32, fe80::1/128            eth0  POD/24
//! POD/32 dev tow... scope link               GATEWAY dev eth0 scope link
//!                                            10.244.X.0/24 via GATEWAY dev eth0 src POD
//!                                            default via GATEWAY dev eth0
//! ```
//!
//! Both families alike. What is here as data is made by ADD and compared by CHECK.

use std::os::fd::AsFd;

use ipnet::IpNet;
use towpath_kernel::address;
use towpath_kernel::link::{self, Change, Index, VethPair};
use towpath_kernel::netlink::{self, Protocol, Request, Socket};
use towpath_kernel::netns::{self, Namespace};
use towpath_kernel::route::{self, BOOT, ROUTE_PROTOCOL, Route};
use towpath_kernel::sysctl::{self, Sysctls};
use towpath_net::Family;
use towpath_net::lease::{Ends, Lease};
use towpath_net::observed::Sysctl;

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

/// What the pod's end holds.
pub fn pod_addresses(lease: &Lease) -> impl Iterator<Item = IpNet> {
    lease.addresses.iter().map(|leased| leased.address)
}

/// The pod's routes, each behind those that it needs.
pub fn pod_routes(lease: &Lease, eth0: Index) -> Vec<Route> {
    let mut routes = Vec::new();
    for leased in &lease.addresses {
        let gateway = leased.gateway;
        let mut subnet = Route::via(leased.address.trunc(), gateway, eth0, BOOT);
        subnet.source = Some(leased.address.addr());
        routes.push(Route::on_link(IpNet::from(gateway), eth0, BOOT));
        routes.push(subnet);
        routes.push(Route::via(Family::of(gateway).everything(), gateway, eth0, BOOT));
    }
    routes
}

/// The node's routes to the pod.
pub fn node_routes(lease: &Lease, veth: Index) -> Vec<Route> {
    lease.addresses.iter().map(|leased| Route::on_link(leased.host(), veth, ROUTE_PROTOCOL)).collect()
}

/// Makes the pair, and tells the numbers of its ends. After an error there is nothing of it.
pub fn create(node: &mut Socket, lease: &Lease, namespace: &Namespace) -> Result<Ends<Index>, Error> {
    let macs = lease.macs();
    let pair = VethPair {
        name: &lease.host_interface,
        mac: macs.node,
        peer_name: &lease.interface,
        peer_mac: macs.pod,
        peer_namespace: namespace.as_fd(),
        mtu: lease.mtu,
        bridge: None,
    };
    let error = match link::create_veth(node, &pair) {
        Ok(ends) => return Ok(ends),
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
pub fn set_up(node: &mut Socket, lease: &Lease, namespace: &Namespace, ends: Ends<Index>) -> Result<(), Error> {
    set_up_node(node, lease, ends.node)?;
    let mut pod = namespace.visit(|| set_up_pod(lease, ends.pod))??;
    let ready = ready::wait_for_addresses(&mut pod, &lease.interface, ends.pod, pod_addresses(lease));
    ready.map_err(|error| not_ready(error, Error::Pod))?;
    // The node's end was up before it had another end that was: only now the kernel begins to use it.
    let ready = ready::wait_for_link(node, &lease.host_interface)
        .and_then(|()| ready::wait_for_addresses(node, &lease.host_interface, ends.node, lease.node_addresses()));
    ready.map_err(|error| not_ready(error, Error::Node))
}

fn not_ready(error: ready::Error, side: impl FnOnce(netlink::Error) -> Error) -> Error {
    match error {
        ready::Error::Netlink(error) => side(error),
        ready::Error::NotReady(..) => Error::NotReady(error),
    }
}

fn set_up_node(node: &mut Socket, lease: &Lease, veth: Index) -> Result<(), Error> {
    let alias = towpath_net::alias::write(lease);
    let no_generated_addresses = quiet_ipv6(lease, &lease.host_interface)?;
    // The node answers for the gateway's address because it has it, and for no other.
    let settings = Change { alias: Some(&alias), no_generated_addresses, proxy_arp: Some(false), ..Change::default() };
    // All in one system call: where many pods come at once, whoever asks for less waits less.
    let mut requests = vec![link::changing(veth, settings), setting_up(veth)];
    requests.extend(lease.node_addresses().into_iter().map(|net| address::adding(veth, net)));
    requests.extend(node_routes(lease, veth).iter().map(route::adding));
    node.execute_all(&requests).map_err(Error::Node)
}

/// Runs inside the pod's namespace; returns a socket of it.
fn set_up_pod(lease: &Lease, eth0: Index) -> Result<Socket, Error> {
    let mut pod = Socket::open(Protocol::Route).map_err(Error::Pod)?;
    quiet_ipv6(lease, &lease.interface)?;
    let mut requests: Vec<Request> = pod_addresses(lease).map(|net| address::adding(eth0, net)).collect();
    requests.push(setting_up(eth0));
    // A second interface of the pod leads to the same destinations.
    requests.extend(pod_routes(lease, eth0).iter().map(route::appending));
    pod.execute_all(&requests).map_err(Error::Pod)?;
    Ok(pod)
}

fn setting_up(link: Index) -> Request {
    link::changing(link, Change { up: Some(true), ..Change::default() })
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
