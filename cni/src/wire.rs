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
use towpath_kernel::netlink::{self, Protocol, Socket};
use towpath_kernel::netns::{self, Namespace};
use towpath_kernel::route::{self, BOOT, ROUTE_PROTOCOL, Route};
use towpath_kernel::sysctl::{self, Sysctls};
use towpath_net::Family;
use towpath_net::lease::Lease;
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

/// Makes the pair. After an error there is nothing of it.
pub fn create(node: &mut Socket, lease: &Lease, namespace: &Namespace) -> Result<(), Error> {
    let macs = lease.macs();
    let pair = VethPair {
        name: &lease.host_interface,
        mac: macs.node,
        peer_name: &lease.interface,
        peer_mac: macs.pod,
        peer_namespace: namespace.as_fd(),
        mtu: lease.mtu,
    };
    let Err(error) = link::create_veth(node, &pair) else { return Ok(()) };
    // A namespace of another kind is only found out when it is used.
    namespace.run(|| ())?;
    if !error.is_taken() {
        return Err(Error::Node(error));
    }
    match link::find(node, pair.name).map_err(Error::Node)? {
        Some(_) => Err(Error::LinkTaken(lease.host_interface.clone())),
        None => Err(Error::InterfaceTaken(lease.interface.clone())),
    }
}

/// Sets both ends of the pair up.
pub fn set_up(node: &mut Socket, lease: &Lease, namespace: &Namespace) -> Result<(), Error> {
    set_up_node(node, lease)?;
    namespace.run(|| set_up_pod(lease))??;
    // The node's end was up before it had another end that was: only now the kernel begins to use it.
    let ready = ready::wait_for_link(node, &lease.host_interface)
        .and_then(|()| ready::wait_for_addresses(node, &lease.host_interface, lease.node_addresses()));
    ready.map_err(|error| not_ready(error, Error::Node))
}

fn not_ready(error: ready::Error, side: impl FnOnce(netlink::Error) -> Error) -> Error {
    match error {
        ready::Error::Netlink(error) => side(error),
        ready::Error::NotReady(..) => Error::NotReady(error),
    }
}

fn set_up_node(node: &mut Socket, lease: &Lease) -> Result<(), Error> {
    let veth = find(node, &lease.host_interface).map_err(Error::Node)?;
    let veth = veth.ok_or_else(|| Error::Gone(lease.host_interface.clone()))?;
    let alias = format!("towpath:{}", lease.attachment());
    // A kernel that was started without IPv6 refuses to be told about it.
    let no_generated_addresses =
        Sysctls::below(sysctl::ROOT).read(&ipv6_sysctl(&lease.host_interface, "accept_ra"))?.is_some();
    let change = Change { alias: Some(&alias), no_generated_addresses, ..Change::default() };
    link::change(node, veth, change).map_err(Error::Node)?;
    write_sysctls(&node_sysctls(lease))?;
    set_link_up(node, veth).map_err(Error::Node)?;
    for address in lease.node_addresses() {
        address::add(node, veth, address).map_err(Error::Node)?;
    }
    for route in node_routes(lease, veth) {
        route::add(node, &route).map_err(Error::Node)?;
    }
    Ok(())
}

/// Runs inside the pod's namespace.
fn set_up_pod(lease: &Lease) -> Result<(), Error> {
    let mut pod = Socket::open(Protocol::Route).map_err(Error::Pod)?;
    let eth0 = find(&mut pod, &lease.interface).map_err(Error::Pod)?;
    let eth0 = eth0.ok_or_else(|| Error::Gone(lease.interface.clone()))?;
    write_sysctls(&pod_sysctls(lease))?;
    for address in pod_addresses(lease) {
        address::add(&mut pod, eth0, address).map_err(Error::Pod)?;
    }
    set_link_up(&mut pod, eth0).map_err(Error::Pod)?;
    for route in pod_routes(lease, eth0) {
        // A second interface of the pod leads to the same destinations.
        route::append(&mut pod, &route).map_err(Error::Pod)?;
    }
    let ready = ready::wait_for_addresses(&mut pod, &lease.interface, pod_addresses(lease));
    ready.map_err(|error| not_ready(error, Error::Pod))
}

fn find(socket: &mut Socket, name: &str) -> Result<Option<Index>, netlink::Error> {
    Ok(link::find(socket, name)?.map(|link| link.index))
}

fn set_link_up(socket: &mut Socket, link: Index) -> Result<(), netlink::Error> {
    link::change(socket, link, Change { up: Some(true), ..Change::default() })
}

/// Settings of an end, and whether the kernel must have them.
type Settings = Vec<(Sysctl, &'static str, bool)>;

fn node_sysctls(lease: &Lease) -> Settings {
    let mut settings = ipv6_sysctls(lease, &lease.host_interface);
    // The node answers for the gateway's address because it has it, and for no other.
    settings.push((Sysctl(format!("net/ipv4/conf/{}/proxy_arp", lease.host_interface)), "0", false));
    settings
}

fn pod_sysctls(lease: &Lease) -> Settings {
    ipv6_sysctls(lease, &lease.interface)
}

fn ipv6_sysctl(interface: &str, name: &str) -> Sysctl {
    Sysctl(format!("net/ipv6/conf/{interface}/{name}"))
}

fn ipv6_sysctls(lease: &Lease, interface: &str) -> Settings {
    let key = |name| ipv6_sysctl(interface, name);
    let needed = lease.addresses.iter().any(|leased| Family::of(leased.gateway) == Family::V6);
    let mut settings = vec![(key("accept_ra"), "0", needed)];
    if needed {
        settings.push((key("disable_ipv6"), "0", true));
    }
    settings
}

fn write_sysctls(settings: &Settings) -> Result<(), sysctl::Error> {
    let sysctls = Sysctls::below(sysctl::ROOT);
    for (key, value, needed) in settings {
        if *needed || sysctls.read(key)?.is_some() {
            sysctls.ensure(key, value)?;
        }
    }
    Ok(())
}
