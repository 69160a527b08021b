//! Ending attachments: first what the kernel has of them, then their leases.

use std::collections::BTreeSet;
use std::path::Path;

use towpath_net::lease::{AttachmentId, Lease, Phase};
use towpath_net::sweep::{Namespace as Seeing, Scope, Seen, sweep};

use crate::leases::{Attempt, Broken, Held, Store};
use crate::netlink::Socket;
use crate::nft::{Nft, NftError};
use crate::{conntrack, fs, link, netlink, netns};

/// Why an attachment could not be ended; its addresses stay taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its lease could not be read or written.
    #[error(transparent)]
    Lease(#[from] fs::Error),
    /// Its link, or the flows to its host ports, could not be removed.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// Its host ports could not be closed.
    #[error(transparent)]
    Nft(#[from] NftError),
}

/// Ends an attachment: its host ports, its link, then its lease. The address is free only once the link is gone.
pub fn release(mut held: Held, node: &mut Socket) -> Result<(), Error> {
    if held.lease.phase != Phase::Leaving {
        // A full disk must not keep an address taken: without this, the agent heals what is being removed until it
        // finds the lease gone.
        _ = held.advance(Phase::Leaving);
    }
    close_ports(&held.lease)?;
    delete_link(node, &held.lease.host_interface)?;
    Ok(held.release()?)
}

/// Closes the host ports of a lease, and forgets the flows through them.
pub fn close_ports(lease: &Lease) -> Result<(), Error> {
    if !lease.host_ports.is_empty() {
        Nft::open()?.close_ports(lease)?;
        conntrack::forget_host_ports(lease)?;
    }
    Ok(())
}

/// Deletes a link of ours, and with it the pod's end; one that is gone is no error.
pub fn delete_link(node: &mut Socket, name: &str) -> Result<(), netlink::Error> {
    match link::delete(node, name) {
        Err(error) if !error.is_missing() => Err(error),
        _ => Ok(()),
    }
}

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Attachments that were ended.
    pub released: Vec<AttachmentId>,
    /// Those that could not be ended, and why.
    pub failed: Vec<(AttachmentId, Error)>,
    /// Records that cannot be read: their attachments are left alone.
    pub broken: Vec<Broken>,
}

/// Where this process can see pods' namespaces by the paths in their leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It shares the runtime's mounts.
    Runtime,
    /// It has mounts and processes of its own: what is at a path here says nothing.
    Own,
}

/// Ends every attachment that nobody needs any more and nobody works on, and tidies the folder of leases.
pub fn sweep_node(store: &Store, node: &mut Socket, scope: &Scope, sight: Sight) -> Result<Swept, Error> {
    let links: BTreeSet<String> = link::list(node)?.into_iter().map(|link| link.name).collect();
    let listing = store.read_all()?;
    let seen = listing.leases.into_iter().map(|lease| Seen {
        namespace: namespace(&lease, sight),
        linked: links.contains(&lease.host_interface),
        lease,
    });
    let mut swept = Swept { broken: listing.broken, ..Swept::default() };
    for lease in sweep(seen, scope) {
        let attachment = lease.attachment();
        match release_unchanged(store, node, &lease) {
            Ok(true) => swept.released.push(attachment),
            Ok(false) => {}
            Err(error) => swept.failed.push((attachment, error)),
        }
    }
    store.tidy(|attachment| links.contains(&attachment.host_interface()))?;
    Ok(swept)
}

/// Ends an attachment unless somebody works on it, or has done so since its lease was read.
fn release_unchanged(store: &Store, node: &mut Socket, lease: &Lease) -> Result<bool, Error> {
    match store.try_hold(&lease.attachment())? {
        Attempt::Held(held) if held.lease == *lease => release(*held, node).map(|()| true),
        _ => Ok(false),
    }
}

fn namespace(lease: &Lease, sight: Sight) -> Seeing {
    if sight == Sight::Own {
        return Seeing::Unknown;
    }
    match netns::Namespace::open(Path::new(&lease.netns)) {
        Ok(_) => Seeing::Alive,
        Err(netns::Error::Missing(_) | netns::Error::NotANamespace(_)) => Seeing::Gone,
        Err(_) => Seeing::Unknown,
    }
}
