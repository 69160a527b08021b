//! ADD: all of an attachment, or nothing of it.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use towpath_kernel::leases::{Error as LeaseError, Held, Request, Store, Wish};
use towpath_kernel::netlink::{Protocol, Socket};
use towpath_kernel::netns::Namespace;
use towpath_kernel::{netlink, proxies, release, route, shaping};
use towpath_net::family::host_net;
use towpath_net::lease::{Lease, Phase};

use crate::admission::Admission;
use crate::config::Config;
use crate::environment::Place;
use crate::error::Error;
use crate::wire::Links;
use crate::wish::Asked;
use crate::{hostports, result, wire};

/// How long a pod waits for an address to become free, where one may: less than runtimes give a plugin.
const PATIENCE: Duration = Duration::from_secs(20);

/// Attaches a pod. After an error there is nothing of it: no link, address, route, host port or lease. Tells on `log` what
/// somebody should know of a pod that is attached all the same.
pub fn add(place: &Place, config: &Config, log: &mut impl Write) -> Result<Value, Error> {
    let namespace = enter(place)?;
    hostports::refuse_unsupported(&config.host_ports)?;
    let mut node = Socket::open(Protocol::Route)?;
    let mut request = request(place, config);
    let attached = match attach(&mut node, config, &request, &namespace, log) {
        // Something uses the address though no lease says so, as after the leases were lost.
        Err(Error::Wire(cause)) if cause.is_taken() => {
            request.wish.in_use = addresses_in_use(&mut node)?;
            attach(&mut node, config, &request, &namespace, log)
        }
        other => other,
    };
    Ok(result::of_lease(config.version, config.previous.as_ref(), &attached?.lease))
}

fn request<'a>(place: &'a Place, config: &'a Config) -> Request<'a> {
    let by_arguments = Some(place.arguments.asked).filter(|asked| *asked != Asked::default());
    Request {
        network: &config.name,
        attachment: place.attachment.clone(),
        netns: &place.netns,
        pod: place.arguments.pod.clone(),
        mac: place.arguments.mac.or(config.mac),
        host_ports: config.host_ports.clone(),
        loopback_ports: hostports::on_loopback(&config.host_ports),
        bandwidth: config.bandwidth,
        wish: Wish { asked: by_arguments.unwrap_or(config.asked), in_use: BTreeSet::new() },
        patience: PATIENCE,
    }
}

fn attach(
    node: &mut Socket,
    config: &Config,
    request: &Request<'_>,
    pod: &Namespace,
    log: &mut impl Write,
) -> Result<Held, Error> {
    let store = Store::below(&config.state);
    let mut held = store.create(request)?;
    // It answers while the links are made.
    let admission = admission(&store, config, &held.lease);
    let created = hostports::refuse_unreachable(&held.lease)
        .map_err(Error::from)
        .and_then(|()| Ok(wire::create(node, &held.lease, pod)?));
    let links = match created {
        Ok(links) => links,
        Err(cause) => return Err(undone(cause, held.discard().map_err(Error::from))),
    };
    let completed = admission.and_then(|admission| complete(node, &store, &mut held, pod, links, admission, log));
    match completed {
        Ok(()) => Ok(held),
        Err(cause) => Err(undone(cause, release::release(held, node).map_err(Error::from))),
    }
}

/// Every single address that a route of the node leads to, and those of pods behind the bridge.
fn addresses_in_use(node: &mut Socket) -> Result<BTreeSet<IpAddr>, netlink::Error> {
    let destinations = route::list(node)?.into_iter().map(|route| route.destination);
    let mut addresses = wire::bridge::addresses_in_use(node)?;
    addresses.extend(destinations.filter(|to| *to == host_net(to.addr())).map(|to| to.addr()));
    Ok(addresses)
}

/// The namespace that a runtime names, which must not be the node's.
pub fn enter(place: &Place) -> Result<Namespace, Error> {
    let namespace = Namespace::open(&place.netns)?;
    if !place.may_be_own && namespace.is_same_as(&Namespace::current()?) {
        return Err(Error::OwnNamespace(place.netns.clone()));
    }
    Ok(namespace)
}

fn complete(
    node: &mut Socket,
    store: &Store,
    held: &mut Held,
    namespace: &Namespace,
    links: Links,
    mut admission: Option<Admission>,
    log: &mut impl Write,
) -> Result<(), Error> {
    proxies::introduce(node, store, &held.lease)?;
    admission.as_mut().map_or(Ok(()), Admission::bind)?;
    wire::set_up(node, &held.lease, namespace, links)?;
    shaping::apply(node, &held.lease)?;
    hostports::open(&held.lease)?;
    if admission.as_ref().is_some_and(Admission::is_anonymous) {
        let attachment = held.lease.attachment();
        _ = writeln!(
            log,
            "{attachment} is of no pod that the runtime names (K8S_POD_UID): nothing of it passes while there are network policies"
        );
    }
    if let Some(mut admission) = admission
        && let Err(missing) = admission.complete()
    {
        if admission.is_strict() {
            return Err(Error::NotInForce(missing));
        }
        // Nobody may listen; the agent tells of it too.
        _ = writeln!(
            log,
            "{} starts without its policies, and nothing passes that they would have to allow: {missing}",
            held.lease.attachment()
        );
    }
    // Last: until then the operator is told that the pod waits.
    Ok(held.advance(Phase::Ready)?)
}

/// What the pod's start waits for; nothing while there are no policies.
fn admission(store: &Store, config: &Config, lease: &Lease) -> Result<Option<Admission>, Error> {
    let startup = store.node().map_err(LeaseError::from)?.startup;
    Ok(startup.map(|startup| Admission::begin(&config.state, startup, lease)))
}

fn undone(cause: Error, undo: Result<(), Error>) -> Error {
    match undo {
        Ok(()) => cause,
        Err(undo) => Error::NotUndone { cause: Box::new(cause), undo: Box::new(undo) },
    }
}
