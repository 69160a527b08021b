//! Waiting for what the kernel does behind our back.
//!
//! A pair is of use when both ends are up, and the kernel takes note of that in a work queue of its own
//! (`linkwatch`); so it does with IPv6 addresses. Until then, it drops packets. Neither can be waited for by blocking:
//! the events are sent shortly before what they tell of.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use towpath_kernel::netlink::{self, Socket};
use towpath_kernel::{link, route};
use towpath_net::Family;

/// How long the kernel may take; it needs a few milliseconds, more where many links change at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_micros(500);

/// Why a wait ended in vain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// It took too long.
    #[error("link {0} was not ready within {PATIENCE:?}")]
    NotReady(String),
}

/// Waits until packets pass a link.
pub fn wait_for_link(socket: &mut Socket, name: &str) -> Result<(), Error> {
    wait(name, || Ok(link::find(socket, name)?.is_some_and(|link| link.running)))
}

/// Waits until the kernel delivers packets to the addresses of a link; it does to those of IPv4 at once.
pub fn wait_for_addresses(
    socket: &mut Socket,
    name: &str,
    addresses: impl IntoIterator<Item = IpNet>,
) -> Result<(), Error> {
    let addresses: Vec<IpAddr> = addresses.into_iter().map(|net| net.addr()).filter(IpAddr::is_ipv6).collect();
    if addresses.is_empty() {
        return Ok(());
    }
    wait(name, || {
        let local = route::local_addresses(socket, Family::V6)?;
        Ok(addresses.iter().all(|address| local.contains(address)))
    })
}

fn wait(name: &str, mut is_ready: impl FnMut() -> Result<bool, netlink::Error>) -> Result<(), Error> {
    let end = Instant::now() + PATIENCE;
    while !is_ready()? {
        if Instant::now() > end {
            return Err(Error::NotReady(name.to_owned()));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
