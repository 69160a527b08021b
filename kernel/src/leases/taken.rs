//! Whether addresses are taken: asked for one by one as long as few are, and then for all of them at once.

use std::collections::HashSet;
use std::net::IpAddr;

use super::Store;

/// How many are asked for one by one: about as many as take as long as the list of all.
const SINGLY: usize = 64;

/// What has been found out about the addresses of a store.
pub(super) struct Taken<'a> {
    store: &'a Store,
    asked: usize,
    all: Option<HashSet<IpAddr>>,
}

impl<'a> Taken<'a> {
    /// Nothing yet.
    pub fn new(store: &'a Store) -> Self {
        Self { store, asked: 0, all: None }
    }

    /// Whether a lease has an address.
    pub fn contains(&mut self, address: IpAddr) -> bool {
        self.asked += 1;
        if self.all.is_none() && self.asked > SINGLY {
            // Where the list cannot be had, it goes on as before.
            self.all = self.store.taken().ok().map(HashSet::from_iter);
        }
        match &self.all {
            Some(all) => all.contains(&address),
            None => self.store.claim(address).exists(),
        }
    }
}
