//! Ending attachments: first what the kernel has of them, then their leases.

use std::collections::BTreeSet;
use std::path::Path;

use towpath_net::alias;
use towpath_net::lease::{AttachmentId, Lease, Phase};
use towpath_net::sweep::{Namespace as Seeing, Scope, Seen, sweep};

use crate::leases::{Attempt, Broken, Held, Store};
use crate::link::{self, Link};
use crate::netlink::Socket;
use crate::nft::{Nft, NftError};
use crate::{conntrack, fs, netlink, netns, proxies};

/// Why an attachment could not be ended; its addresses stay taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its lease could not be read or written.
    #[error(transparent)]
    Lease(#[from] fs::Error),
    /// Its link, or the flows to its host ports, could not be removed.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// Its packets could not be kept from passing, or its host ports not be closed.
    #[error(transparent)]
    Nft(#[from] NftError),
}

/// Ends an attachment: what the table has of it, its link, then its lease. The address is free only once the link is gone.
pub fn release(mut held: Held, node: &mut Socket) -> Result<(), Error> {
    if held.lease.phase != Phase::Leaving {
        // A full disk must not keep an address taken: without this, the agent heals what is being removed until it
        // finds the lease gone.
        _ = held.advance(Phase::Leaving);
    }
    let _table = dismiss(&held.claimed())?;
    delete_link(node, &held.lease.host_interface)?;
    proxies::forget_pod(node, &held.lease)?;
    if let Some(shaper) = held.lease.shaper() {
        delete_link(node, &shaper)?;
    }
    Ok(held.release()?)
}

/// Lets no packet of a pod pass any more, closes its host ports, and forgets the flows through them.
///
/// Whoever closes the returned socket waits until the kernel has freed the memory of what was removed
/// (`nft_rcv_nl_event`), which is milliseconds: there is time for that while the link goes.
fn dismiss(lease: &Lease) -> Result<Nft, Error> {
    let mut nft = Nft::open()?;
    nft.dismiss(lease)?;
    if !lease.host_ports.is_empty() {
        conntrack::forget_host_ports(lease)?;
    }
    Ok(nft)
}

/// Deletes the links of an attachment that has no lease.
pub fn delete_links(node: &mut Socket, attachment: &AttachmentId) -> Result<(), netlink::Error> {
    if let Some(lease) = link::find(node, &attachment.host_interface())?.as_ref().and_then(told_by) {
        proxies::forget_pod(node, &lease)?;
    }
    delete_link(node, &attachment.host_interface())?;
    delete_link(node, &attachment.shaper())
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
    /// Records that cannot be read: where their pods live, they are left alone.
    pub broken: Vec<Broken>,
    /// Attachments that got a lease anew: theirs was lost, though their links are there.
    pub adopted: Vec<AttachmentId>,
    /// Why the folder of leases could not be tidied.
    pub untidy: Option<Error>,
}

/// Where this process can see pods' namespaces by the paths in their leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It shares the runtime's mounts.
    Runtime,
    /// It has mounts and processes of its own: what is at a path here says nothing.
    Own,
}

/// Ends every attachment that nobody needs any more and nobody works on, and tidies the folder of leases. In the
/// agent's scope, pods whose leases are lost get leases anew. What fails for one attachment keeps no other from it.
pub fn sweep_node(store: &Store, node: &mut Socket, scope: &Scope, sight: Sight) -> Result<Swept, Error> {
    // In this order: a pod that comes in between has a link by now, or no lease that is looked at.
    let listing = store.read_all()?;
    let links = link::list(node)?;
    let names: BTreeSet<&str> = links.iter().map(|link| link.name.as_str()).collect();
    let mut swept = Swept::default();
    let mut leases = listing.leases;
    for broken in listing.broken {
        leases.extend(broken.attachment.as_ref().map(|attachment| store.what_is_known(attachment)).transpose()?);
        swept.broken.push(broken);
    }
    let seen = leases.into_iter().map(|lease| Seen {
        namespace: namespace(&lease, sight),
        linked: names.contains(lease.host_interface.as_str()),
        lease,
    });
    for lease in sweep(seen, scope) {
        let attachment = lease.attachment();
        match release_unchanged(store, node, &lease) {
            Ok(true) => {
                swept.broken.retain(|broken| broken.attachment.as_ref() != Some(&attachment));
                swept.released.push(attachment);
            }
            Ok(false) => {}
            Err(error) => swept.failed.push((attachment, error)),
        }
    }
    let adopted = if *scope == Scope::Node { adopt(store, node, &links, &mut swept.adopted) } else { Ok(()) };
    let tidied = store.tidy(|attachment| names.contains(attachment.host_interface().as_str()));
    let answered = if *scope == Scope::Node { proxies::mend(node, &store.read_all()?.leases) } else { Ok(()) };
    swept.untidy = adopted.and(tidied.map_err(Error::from)).and(answered.map_err(Error::from)).err();
    Ok(swept)
}

/// Ends an attachment unless somebody works on it, or has done so since its lease was read.
fn release_unchanged(store: &Store, node: &mut Socket, lease: &Lease) -> Result<bool, Error> {
    match store.try_hold(&lease.attachment())? {
        Attempt::Held(held) if held.lease == *lease => release(*held, node).map(|()| true),
        _ => Ok(false),
    }
}

/// A lease that was made anew names no namespace: of that nothing is known.
fn namespace(lease: &Lease, sight: Sight) -> Seeing {
    if sight == Sight::Own || lease.netns.is_empty() {
        return Seeing::Unknown;
    }
    match netns::Namespace::open(Path::new(&lease.netns)) {
        Ok(_) => Seeing::Alive,
        Err(netns::Error::Missing(_) | netns::Error::NotANamespace(_)) => Seeing::Gone,
        Err(_) => Seeing::Unknown,
    }
}

/// Makes leases anew for links of ours that have none, by what is written on them. Their host ports and limits are lost.
fn adopt(store: &Store, node: &mut Socket, links: &[Link], adopted: &mut Vec<AttachmentId>) -> Result<(), Error> {
    let lost = links.iter().filter_map(told_by).filter(|lease| !store.has_record(&lease.attachment()));
    for lease in lost.collect::<Vec<_>>() {
        let Some(held) = store.adopt(lease)? else { continue };
        // Somebody may have detached it since the links were listed.
        match link::find(node, &held.lease.host_interface)? {
            Some(_) => adopted.push(held.lease.attachment()),
            None => held.release()?,
        }
    }
    Ok(())
}

/// What a link tells of its lease, where it is one of ours.
fn told_by(link: &Link) -> Option<Lease> {
    alias::read(link.alias.as_deref()?, &link.name, link.mtu)
}
