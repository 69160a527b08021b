//! The addresses of this node's pods, by their leases.

use std::collections::BTreeMap;
use std::net::IpAddr;

use towpath_kernel::fs::Error;
use towpath_kernel::leases::Store;
use towpath_net::lease::{Phase, PodReference};
use towpath_net::policy::input::Key;

/// A pod of this node that has addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    /// Its namespace and name.
    pub key: Key,
    /// Those of all of its attachments.
    pub addresses: Vec<IpAddr>,
    /// Whether its ADD is under way.
    pub is_joining: bool,
}

/// The pods by what they are told apart by, whether their interfaces are complete or not: a pod is judged before it can send.
pub fn read(store: &Store) -> Result<BTreeMap<String, Leased>, Error> {
    let mut pods: BTreeMap<String, Leased> = BTreeMap::new();
    for lease in store.read_all()?.leases {
        let Some((uid, pod)) = lease.pod.and_then(|pod| pod.identity().zip(Some(pod))) else { continue };
        let PodReference { namespace, name, .. } = pod;
        let pod = pods.entry(uid).or_insert_with(|| Leased {
            key: Key { namespace, name },
            addresses: Vec::new(),
            is_joining: false,
        });
        pod.is_joining |= lease.phase == Phase::Joining;
        pod.addresses.extend(lease.addresses.iter().map(|leased| leased.address.addr()));
    }
    Ok(pods)
}
