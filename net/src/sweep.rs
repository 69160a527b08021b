//! Which leases nobody needs any more.
//!
//! The agent sweeps by itself, for most runtimes never ask; a runtime may ask through the CNI verb GC, and then tells
//! which attachments it still knows.

use std::collections::BTreeSet;

use crate::lease::{AttachmentId, Lease, Phase};

/// What is known of a pod's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// It is there.
    Alive,
    /// It is gone.
    Gone,
    /// It cannot be seen from here.
    Unknown,
}

/// A lease, and what the node shows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The lease.
    pub lease: Lease,
    /// The pod's namespace.
    pub namespace: Namespace,
    /// Whether the node's end of the pair is there.
    pub linked: bool,
}

/// Whose sweep it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The agent's: every lease of the node.
    Node,
    /// A runtime's: leases of one CNI network that it does not list.
    Network {
        /// The network's name.
        name: String,
        /// What the runtime still knows.
        listed: BTreeSet<AttachmentId>,
    },
}

/// The leases that nobody needs any more.
///
/// A complete pod whose namespace lives is kept even where a runtime does not list it: another runtime of this node
/// may have made it. What a dead process left half made or half removed needs no such care.
pub fn sweep(seen: impl IntoIterator<Item = Seen>, scope: &Scope) -> Vec<Lease> {
    seen.into_iter().filter(|seen| is_abandoned(seen, scope)).map(|seen| seen.lease).collect()
}

fn is_abandoned(seen: &Seen, scope: &Scope) -> bool {
    match scope {
        Scope::Node => is_dead(seen),
        Scope::Network { name, listed } => {
            let concerned = seen.lease.network == *name && !listed.contains(&seen.lease.attachment());
            concerned && (is_dead(seen) || seen.lease.phase != Phase::Ready)
        }
    }
}

/// The kernel removes both ends of a pair with the pod's namespace: where that cannot be seen, its end tells.
fn is_dead(seen: &Seen) -> bool {
    match seen.namespace {
        Namespace::Alive => false,
        Namespace::Gone => true,
        Namespace::Unknown => !seen.linked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: &str, phase: Phase, namespace: Namespace, linked: bool) -> Seen {
        let attachment = AttachmentId { container: id.to_owned(), interface: "eth0".to_owned() };
        let mut lease = Lease::unknown(&attachment);
        lease.network = "towpath".to_owned();
        lease.phase = phase;
        Seen { lease, namespace, linked }
    }

    fn swept(seen: Vec<Seen>, scope: &Scope) -> Vec<String> {
        sweep(seen, scope).into_iter().map(|lease| lease.container_id).collect()
    }

    fn runtime(name: &str, listed: &[&str]) -> Scope {
        let id = |c: &&str| AttachmentId { container: (*c).to_owned(), interface: "eth0".to_owned() };
        Scope::Network { name: name.to_owned(), listed: listed.iter().map(id).collect() }
    }

    #[test]
    fn the_agent_frees_what_lost_its_namespace_and_nothing_else() {
        let all = vec![
            seen("alive", Phase::Ready, Namespace::Alive, true),
            seen("healing", Phase::Ready, Namespace::Alive, false),
            seen("half", Phase::Joining, Namespace::Alive, false),
            seen("gone", Phase::Ready, Namespace::Gone, false),
            seen("going", Phase::Leaving, Namespace::Gone, true),
            seen("hidden", Phase::Ready, Namespace::Unknown, true),
            seen("hidden-gone", Phase::Ready, Namespace::Unknown, false),
        ];
        assert_eq!(swept(all, &Scope::Node), ["gone", "going", "hidden-gone"]);
    }

    #[test]
    fn a_runtime_frees_what_it_does_not_list_unless_it_lives_completely() {
        let all = vec![
            seen("listed", Phase::Ready, Namespace::Gone, false),
            seen("gone", Phase::Ready, Namespace::Gone, false),
            seen("half", Phase::Joining, Namespace::Alive, true),
            seen("alive", Phase::Ready, Namespace::Alive, true),
        ];
        assert_eq!(swept(all.clone(), &runtime("towpath", &["listed"])), ["gone", "half"]);
        assert!(swept(all, &runtime("another", &[])).is_empty());
    }
}
