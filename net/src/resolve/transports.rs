//! By what each node sends and takes packets, so that any two have a way to each other.

use crate::intent::{Crossing, Intent};
use crate::transport::{Transport, Transports};

/// By what a node sends and takes packets whose exception has this of its own, or nothing.
///
/// Each prefers its own mode, and then the others that are in use; an exception takes packets by its own mode alone, so
/// that all others send to it by that. Three things bend this. `Direct` comes last where a tunnel with
/// `crossSubnetOnly` is in use, also for nodes whose own mode it is: they send directly to nodes of their subnet, and by
/// the tunnel to others. Nodes of mode `WireGuard` send by nothing else, so everybody takes that. And in a cluster that
/// encrypts everything nobody takes anything else.
pub(super) fn transports(intent: &Intent, own: Option<Crossing>) -> Transports {
    let crossing = own.unwrap_or(intent.transport);
    let is_bypassed = intent.crossings().any(|other| other.cross_subnet_only);
    Transports {
        prefers: prefers(intent, crossing, is_bypassed),
        accepts: match own {
            Some(own) => accepts_as_exception(intent, own),
            None => accepts(intent, is_bypassed),
        },
        cross_subnet_only: crossing.cross_subnet_only || (crossing.mode == Transport::Direct && is_bypassed),
        tunnels: intent.tunnels,
    }
}

fn prefers(intent: &Intent, crossing: Crossing, is_bypassed: bool) -> Vec<Transport> {
    let own = crossing.mode;
    if own == Transport::WireGuard {
        return vec![own];
    }
    let tunnels = in_use(intent).filter(|mode| mode.is_tunnel() && *mode != own);
    let direct = in_use(intent).filter(|mode| !mode.is_tunnel() && *mode != own);
    let mut order: Vec<Transport> = std::iter::once(own).chain(tunnels).chain(direct).collect();
    if own == Transport::Direct && is_bypassed {
        order.rotate_left(1);
    }
    order
}

/// What nodes without a transport of their own take: everything that is in use.
fn accepts(intent: &Intent, is_bypassed: bool) -> Vec<Transport> {
    let bypass = |mode: &Transport| *mode == Transport::Direct && is_bypassed;
    let modes = Transport::ALL.into_iter();
    if intent.transport.is_encrypted() {
        return vec![Transport::WireGuard];
    }
    modes.filter(|mode| bypass(mode) || is_in_use(intent, *mode)).collect()
}

fn accepts_as_exception(intent: &Intent, own: Crossing) -> Vec<Transport> {
    let takes = |mode: &Transport| match *mode {
        mode if mode == own.mode => true,
        Transport::Direct => own.cross_subnet_only,
        Transport::WireGuard => is_in_use(intent, Transport::WireGuard),
        _ => false,
    };
    Transport::ALL.into_iter().filter(takes).collect()
}

fn in_use(intent: &Intent) -> impl Iterator<Item = Transport> {
    Transport::ALL.into_iter().filter(|mode| is_in_use(intent, *mode))
}

fn is_in_use(intent: &Intent, mode: Transport) -> bool {
    intent.crossings().any(|crossing| crossing.mode == mode)
}
