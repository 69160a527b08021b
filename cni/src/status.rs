//! STATUS: whether ADD would work. Cheap, for runtimes ask every few seconds.

use towpath_kernel::leases::Store;

use crate::config::Config;
use crate::error::Error;
use crate::node;

/// Tells whether the next ADD would find all that it needs.
pub fn status(config: &Config) -> Result<(), Error> {
    ready(config).map_err(|error| Error::NotAvailable(Box::new(error)))
}

fn ready(config: &Config) -> Result<(), Error> {
    let node = node::read(&config.state)?;
    Ok(Store::below(&config.state).vacancy(&node.pod_cidrs)?)
}
