//! How full the node's blocks are.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use towpath_net::node_file::NodeFile;
use towpath_net::state::{Addressing, Attachment};
use towpath_net::usage::{BlockUsage, usage};

use super::error::{Error, NodeError};
use super::{Store, names};
use crate::fs::Error as FileError;

impl Store {
    /// How full each of the node's blocks is, where new pods are attached by `mode`.
    pub fn usage(
        &self,
        blocks: &[IpNet],
        mode: Attachment,
        addressing: &Addressing,
    ) -> Result<Vec<BlockUsage>, FileError> {
        Ok(usage(blocks, mode, addressing, &self.taken()?, &self.all_freed(self.rest())?))
    }

    /// Whether a block may go to another node: no pod has an address of it, none that a pod had still rests, and none
    /// will be given, for the agent's file does not offer it. Once so, it stays so until that file offers it again:
    /// whoever gives an address reads the file under the lock that this is found out under.
    pub fn drained(&self, block: &IpNet) -> Result<bool, Error> {
        if !self.records().exists() {
            return Ok(!self.is_offered(block)?);
        }
        let _names = self.lock_names()?;
        if self.is_offered(block)? || self.taken()?.iter().any(|address| block.contains(address)) {
            return Ok(false);
        }
        let resting = self.all_freed(self.rest())?.into_iter().filter(|freed| freed.resting);
        Ok(!resting.into_iter().any(|freed| block.contains(&freed.address)))
    }

    /// Without the agent's file nothing is offered.
    fn is_offered(&self, block: &IpNet) -> Result<bool, NodeError> {
        match self.node() {
            Ok(node) => Ok(node.offers(block)),
            Err(NodeError::Missing(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How long freed addresses rest on this node.
    pub(super) fn rest(&self) -> Duration {
        self.node().map_or(Duration::from_secs(NodeFile::QUARANTINE.into()), |node| node.rest())
    }

    /// The addresses that leases have, in any order.
    pub(super) fn taken(&self) -> Result<Vec<IpAddr>, FileError> {
        let names = names::unordered(&self.claims())?;
        Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }
}
