//! STATUS: whether ADD would work. Cheap, for runtimes ask every few seconds.

use towpath_kernel::leases::{Error as LeaseError, NodeError, Store};
use towpath_kernel::link;
use towpath_kernel::netlink::{Protocol, Socket};
use towpath_kernel::nft::Nft;
use towpath_net::lease::is_host_interface;
use towpath_net::state::Attachment;

use crate::config::Config;
use crate::error::Error;
use crate::wire;

/// Tells whether the next ADD would find all that it needs, and where not, whether pods that run suffer too.
pub fn status(config: &Config) -> Result<(), Error> {
    let cause = match ready(config) {
        Ok(()) => return Ok(()),
        Err(cause) => Box::new(cause),
    };
    // Without its file, nobody heals the node; without its table, nothing is masqueraded and no host port is open; without
    // its bridge, pods behind that reach nobody.
    let is_gone = matches!(
        *cause,
        Error::NoTable | Error::Lease(LeaseError::Node(NodeError::Missing(_))) | Error::Wire(wire::Error::NoBridge)
    );
    Err(if is_gone && has_pods() { Error::Limited(cause) } else { Error::NotAvailable(cause) })
}

fn ready(config: &Config) -> Result<(), Error> {
    let store = Store::below(&config.state);
    match store.vacancy() {
        // A kubelet takes a bad status for a node without a network: it would have every pod evicted after five minutes,
        // and those that replace them fill the node again. Full of pods is as it should be; ADD says what is full.
        Err(LeaseError::Exhausted { .. }) if has_pods() => {}
        vacancy => vacancy?,
    }
    let is_bridged = store.node().map_err(LeaseError::from)?.attachment == Attachment::Bridge;
    if is_bridged && wire::bridge::find(&mut Socket::open(Protocol::Route)?)?.is_none() {
        return Err(wire::Error::NoBridge.into());
    }
    if Nft::open()?.exists()? { Ok(()) } else { Err(Error::NoTable) }
}

/// By their links: leases may be lost with the rest.
fn has_pods() -> bool {
    let links = Socket::open(Protocol::Route).and_then(|mut node| link::list(&mut node));
    links.is_ok_and(|links| links.iter().any(|link| is_host_interface(&link.name)))
}
