//! Taking a table away that may be large: piece by piece, so that nobody waits for all of it at once.

use std::collections::BTreeMap;

use towpath_net::lease::POD_LINKS;
use towpath_net::nft::build::{RuleBuilder, filter_chain};
use towpath_net::nft::{Chain, Hook};

use super::write::SHORT;
use super::{About, Error, Meanwhile, PolicyTable};

/// `NF_IP_PRI_FILTER` (`linux/netfilter_ipv4.h`).
const FILTER: i32 = 0;
/// The chains that keep pods closed while the others go.
const CLOSED: [(&str, Hook); 2] = [("closed-forward", Hook::Forward), ("closed-input", Hook::Input)];

/// A chain of a table.
#[derive(Default)]
struct Found {
    is_base: bool,
    rules: usize,
}

impl PolicyTable {
    /// Empties the table, where there is one, but for the chains that keep pods closed; the table itself stays. Whatever is
    /// left, as where somebody else alters it meanwhile, goes with the table.
    pub(super) fn take_apart(&mut self, meanwhile: Meanwhile) -> Result<(), Error> {
        if !self.exists()? {
            return Ok(());
        }
        match self.take_apart_now(meanwhile) {
            Err(Error::Netlink(_)) => {
                self.writer = super::Writer::new();
                Ok(())
            }
            other => other,
        }
    }

    fn take_apart_now(&mut self, meanwhile: Meanwhile) -> Result<(), Error> {
        let mut chains: BTreeMap<String, Found> = BTreeMap::new();
        self.each_chain(|name, is_base, _| _ = chains.insert(name, Found { is_base, rules: 0 }))?;
        self.each_rule(|chain, _| {
            if let Some(chain) = chains.get_mut(chain) {
                chain.rules += 1;
            }
        })?;
        let mut sets = Vec::new();
        self.each_set(|name, _| sets.push(name))?;
        // Where packets come in, first: all that is behind it concerns none of them any more.
        for (name, _) in chains.extract_if(.., |_, found| found.is_base) {
            self.writer.flush_chain(About::Table, &name);
            self.writer.delete_chain(About::Table, &name);
        }
        if meanwhile == Meanwhile::Closed {
            self.chains(closed());
        }
        self.commit()?;
        self.take_apart_inner(&chains, &sets)
    }

    /// What leads somewhere goes before what it leads to.
    fn take_apart_inner(&mut self, chains: &BTreeMap<String, Found>, sets: &[String]) -> Result<(), Error> {
        let mut rules = 0;
        for (name, found) in chains.iter().filter(|(_, found)| found.rules > 0) {
            if rules > 0 && rules + found.rules > SHORT {
                self.commit()?;
                rules = 0;
            }
            self.writer.flush_chain(About::Table, name);
            rules += found.rules;
        }
        self.commit()?;
        for name in sets {
            self.writer.delete_set(About::Table, name);
            self.roll(SHORT)?;
        }
        self.commit()?;
        for name in chains.keys() {
            self.writer.delete_chain(About::Table, name);
            self.roll(SHORT)?;
        }
        self.commit()
    }
}

/// Nothing new begins, from pods or to them. They need nothing of the table.
fn closed() -> Vec<(&'static str, Chain)> {
    let (low, high) = POD_LINKS;
    let known = || RuleBuilder::either("connections that were let through").of_known_connection().accept().done();
    let from = || RuleBuilder::either("pods, until policies are in force").from_links_between(low, high).drop().done();
    let to = || RuleBuilder::either("pods, until policies are in force").to_links_between(low, high).drop().done();
    let rules = |hook| match hook {
        Hook::Forward => vec![known(), from(), to()],
        Hook::Prerouting | Hook::Input | Hook::Output | Hook::Postrouting => vec![known(), from()],
    };
    CLOSED.map(|(name, hook)| (name, filter_chain(hook, FILTER, rules(hook)))).into()
}
