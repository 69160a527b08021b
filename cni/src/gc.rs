//! GC: ending attachments that the runtime does not know any more.

use towpath_kernel::leases::Store;
use towpath_kernel::netlink::{Protocol, Socket};
use towpath_kernel::release::{Sight, sweep_node};
use towpath_net::sweep::Scope;

use crate::config::Config;
use crate::error::Error;

/// Ends what the runtime does not list of this network; see [`towpath_net::sweep`] for what is spared.
///
/// A runtime that sends no list at all says nothing, and nothing is done: it may be a tool that knows no pods.
pub fn collect(config: &Config) -> Result<(), Error> {
    let Some(listed) = config.listed.clone() else { return Ok(()) };
    let mut node = Socket::open(Protocol::Route)?;
    let scope = Scope::Network { name: config.name.clone(), listed };
    let swept = sweep_node(&Store::below(&config.state), &mut node, &scope, Sight::Runtime)?;
    let failed = swept.failed.iter().map(|(attachment, error)| format!("{attachment}: {error}"));
    let others = swept.broken.iter().map(ToString::to_string).chain(swept.untidy.iter().map(ToString::to_string));
    let failures: Vec<String> = failed.chain(others).collect();
    if failures.is_empty() { Ok(()) } else { Err(Error::Uncollected(failures)) }
}
