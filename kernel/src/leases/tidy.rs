//! Removing what nobody needs, and putting back what is missing.

use towpath_net::lease::{AttachmentId, Lease, Phase};

use super::claims::link_all;
use super::{Held, Store, names, read};
use crate::fs::Error as FileError;

impl Store {
    /// Removes what no process works on and no record names: claims that lost their record, files that a dead process
    /// was still writing, markers of dead processes that waited, addresses that have rested. Puts back claims that a
    /// complete record lost. `is_linked` tells whether an attachment's link is there: while it is, its address is in
    /// use.
    pub fn tidy(&self, is_linked: impl Fn(&AttachmentId) -> bool) -> Result<(), FileError> {
        if !self.folder.exists() {
            return Ok(());
        }
        let _names = self.lock_names()?;
        let blocks = self.node().map(|node| node.pod_cidrs).unwrap_or_default();
        // What fails keeps nothing else from it.
        let done = [
            names::remove_unfinished(&self.records()),
            names::remove_unfinished(&self.claims()),
            names::remove_unfinished(&self.folder),
            self.tidy_waiters(),
            self.remove_lost_claims(is_linked),
            self.restore_claims(),
            self.remove_free_ports(),
            self.forget_rested(&blocks, self.rest()),
        ];
        done.into_iter().collect()
    }

    fn remove_lost_claims(&self, is_linked: impl Fn(&AttachmentId) -> bool) -> Result<(), FileError> {
        let lost = self.all_claims()?.into_iter().filter(|claim| {
            let owner = read(claim).map(|lease| lease.attachment());
            owner.is_some_and(|owner| !self.has_record(&owner) && !is_linked(&owner))
        });
        lost.map(|claim| crate::fs::remove(&claim)).fold(Ok(()), Result::and)
    }

    fn restore_claims(&self) -> Result<(), FileError> {
        let mut done = Ok(());
        for name in names::list(&self.records())? {
            let record = self.records().join(name);
            let Some(lease) = read(&record).filter(|lease| lease.phase == Phase::Ready) else { continue };
            for claim in self.claims_of(&lease)?.into_iter().filter(|claim| !claim.exists()) {
                done = done.and(link_all(&record, [claim]));
            }
        }
        done
    }

    /// Makes a lease anew whose record is lost, though its link is there and its addresses are in use; nothing where
    /// there is a record. Its namespace and network are not known any more.
    pub fn adopt(&self, lease: Lease) -> Result<Option<Held>, FileError> {
        self.make_folders()?;
        let _names = self.lock_names()?;
        if self.has_record(&lease.attachment()) {
            return Ok(None);
        }
        let mut lease = Lease { phase: Phase::Ready, ..lease };
        // Whoever has the claim to an address has it, whatever a link says.
        lease.addresses.retain(|leased| !self.claim(leased.address.addr()).exists());
        let lock = self.link(&lease)?;
        Ok(Some(Held { lease, store: self.clone(), lock }))
    }
}
