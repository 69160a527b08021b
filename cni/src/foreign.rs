//! Pods that another network attached: after a change of network, a runtime has Towpath detach them.
//!
//! Nothing of Towpath's is in them, and nobody else will ever be asked: their interface would stay, and the addresses
//! that `host-local` reserved for them. Nothing here can make DEL fail.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use towpath_kernel::link::{self, Kind};
use towpath_kernel::netlink::{Protocol, Socket};
use towpath_kernel::netns::Namespace;
use towpath_net::lease::AttachmentId;

/// What the node's ends of other networks' pairs are called: Calico's, those of `bridge` and `ptp`, kindnet's.
const PATTERNS: [&str; 3] = ["cali", "veth", "knet"];
/// Where `host-local` keeps its reservations: a folder for each network, in it a file for each address.
const RESERVATIONS: &str = "/var/lib/cni/networks";

/// Removes what another network left of an attachment.
pub fn remove(node: &mut Socket, attachment: &AttachmentId, netns: &str) {
    if let Some(name) = foreign_end(node, attachment, netns) {
        _ = link::delete(node, &name);
    }
    for reservation in reservations(Path::new(RESERVATIONS), &attachment.container) {
        _ = fs::remove_file(reservation);
    }
}

/// The node's end of a pair whose other end is the pod's interface, where both agree and its name is another network's.
fn foreign_end(node: &mut Socket, attachment: &AttachmentId, netns: &str) -> Option<String> {
    let namespace = Namespace::open(netns).ok()?;
    if namespace.is_same_as(&Namespace::current().ok()?) {
        return None;
    }
    let mut pod = namespace.socket(Protocol::Route).ok()?.ok()?;
    let inside = link::find(&mut pod, &attachment.interface).ok()??;
    let outside = inside.peer.filter(|_| inside.kind == Kind::Veth)?.index;
    let links = link::list(node).ok()?;
    let end = links.into_iter().find(|link| link.index == outside)?;
    let agrees = end.kind == Kind::Veth && end.peer.is_some_and(|peer| peer.index == inside.index);
    (agrees && PATTERNS.iter().any(|pattern| end.name.starts_with(pattern))).then_some(end.name)
}

/// The first line of a reservation is the container that it is for.
fn reservations(folder: &Path, container: &str) -> Vec<PathBuf> {
    let within = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_address = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<IpAddr>().is_ok())
    };
    let is_for = |path: &PathBuf| {
        fs::read_to_string(path).is_ok_and(|text| text.lines().next().map(str::trim) == Some(container))
    };
    let files: Vec<PathBuf> = within(folder).flat_map(|network| within(&network).collect::<Vec<_>>()).collect();
    files.into_iter().filter(is_address).filter(is_for).collect()
}
