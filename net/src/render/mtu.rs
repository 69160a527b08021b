//! How large packets may be.

use super::Obstacle;
use super::vantage::Vantage;
use crate::family::{Family, PerFamily};
use crate::state::Mtu;
use crate::transport::Transport;

/// What a link carries of which nothing is known: plain Ethernet (RFC 894).
pub(super) const ETHERNET: u32 = 1500;
/// What every link with IPv6 must carry (RFC 8200, section 5).
const LEAST_IPV6: u32 = 1280;

impl Vantage<'_> {
    /// The MTU of a tunnel between node addresses of these families: what the least of the uplinks carries, less what the
    /// tunnel adds. Where no uplink is known, that of plain Ethernet stands for it, so that the device stays.
    pub(super) fn device_mtu(&self, transport: Transport, outer: impl IntoIterator<Item = Family>) -> u32 {
        let carried = |family| self.carried.get(family).map(|mtu| mtu.saturating_sub(transport.overhead(family)));
        outer.into_iter().filter_map(carried).min().unwrap_or(ETHERNET - transport.overhead(Family::V6))
    }

    /// The families of node addresses by which packets of this node's pods travel to nodes with the same families.
    pub(super) fn usual_outer(&self, transport: Transport) -> impl Iterator<Item = Family> + use<> {
        let pods = self.pods();
        let other = || Family::ALL.into_iter().find(|family| self.addresses.get(*family).is_some());
        let of = |family: Family| match self.addresses.get(family) {
            Some(_) => Some(family),
            None => other().filter(|_| transport.mixes_families()),
        };
        let all = PerFamily::from_fn(|family| pods.get(family).then(|| of(family)).flatten());
        Family::ALL.into_iter().filter(move |family| [all.v4, all.v6].contains(&Some(*family)))
    }

    /// The MTU of new pods: that which was asked for, or the most that reaches every node by whatever this node prefers.
    pub(super) fn pod_mtu(&self, obstacles: &mut Vec<Obstacle>) -> Option<u32> {
        let carried = |family: Family| {
            let uplink = (*self.carried.get(family))?;
            let ways = self.spec.transport.prefers.iter();
            let taking = ways.filter(|transport| self.usual_outer(**transport).any(|outer| outer == family));
            let overhead = taking.map(|transport| transport.overhead(family)).max().unwrap_or(0);
            Some(uplink.saturating_sub(overhead))
        };
        let carried = Family::ALL.into_iter().filter_map(carried).min()?;
        let mtu = match self.spec.mtu {
            Mtu::Auto => carried,
            Mtu::Bytes(mtu) => {
                if mtu > carried {
                    obstacles.push(Obstacle::MtuAboveUplink { mtu, uplink: carried });
                }
                mtu.min(carried)
            }
        };
        if self.pods().v6 && mtu < LEAST_IPV6 {
            obstacles.push(Obstacle::MtuBelowIpv6 { mtu });
        }
        Some(mtu)
    }
}
