//! Waiting for what the kernel does behind our back.
//!
//! A pair is of use when both ends are up, and the kernel takes note of that in a work queue of its own
//! (`linkwatch`); so it does with IPv6 addresses. Until then, it drops packets. Neither can be waited for by blocking:
//! the events are sent shortly before what they tell of.

use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use towpath_kernel::link::Index;
use towpath_kernel::netlink::{self, Socket};
use towpath_kernel::{link, route};

/// How long the kernel may take; it needs a few milliseconds, more where many links change at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before looking again: at first, and at most.
const PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

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

/// Waits until packets pass a link. Linux 6.8 and newer get ready what they are asked for.
pub fn wait_for_link(socket: &mut Socket, name: &str) -> Result<(), Error> {
    wait(name, || Ok(link::find(socket, name)?.is_some_and(|link| link.running)))
}

/// Waits until the kernel delivers packets to the addresses of a link; it does to those of IPv4 at once, and to those
/// that are the loopback's elsewhere.
pub fn wait_for_addresses(
    socket: &mut Socket,
    name: &str,
    link: Index,
    addresses: impl IntoIterator<Item = IpNet>,
) -> Result<(), Error> {
    for address in addresses {
        if let IpNet::V6(net) = address
            && !net.addr().is_loopback()
        {
            wait(name, || route::is_local(socket, link, net.addr()))?;
        }
    }
    Ok(())
}

fn wait(name: &str, mut is_ready: impl FnMut() -> Result<bool, netlink::Error>) -> Result<(), Error> {
    let end = Instant::now() + PATIENCE;
    let mut pause = PAUSE;
    while !is_ready()? {
        if Instant::now() > end {
            return Err(Error::NotReady(name.to_owned()));
        }
        thread::sleep(pause);
        pause = LONGEST_PAUSE.min(pause * 2);
    }
    Ok(())
}
