//! Taking a table away that may be large: piece by piece, so that nobody waits for all of it at once.

use std::collections::BTreeMap;

use towpath_net::policy::objects::TABLE;

use super::write::SHORT;
use super::{About, Error, PolicyTable};

/// A chain of a table.
#[derive(Default)]
struct Found {
    is_base: bool,
    rules: usize,
}

impl PolicyTable {
    /// Empties the table, where there is one; the table itself stays. Whatever is left, as where somebody else alters it
    /// meanwhile, goes with the table.
    pub(super) fn take_apart(&mut self) -> Result<(), Error> {
        if !self.exists()? {
            return Ok(());
        }
        match self.take_apart_now() {
            Err(Error::Netlink(_)) => {
                self.writer = super::Writer::new();
                Ok(())
            }
            other => other,
        }
    }

    fn take_apart_now(&mut self) -> Result<(), Error> {
        let mut chains: BTreeMap<String, Found> = BTreeMap::new();
        self.each_chain(TABLE, |name, is_base, _| _ = chains.insert(name, Found { is_base, rules: 0 }))?;
        self.each_rule(TABLE, |chain, _| {
            if let Some(chain) = chains.get_mut(chain) {
                chain.rules += 1;
            }
        })?;
        let mut sets = Vec::new();
        self.each_set(|name, set| {
            // The others go with their rules.
            if !set.is_nameless() {
                sets.push(name);
            }
        })?;
        // Where packets come in, first: all that is behind it concerns none of them any more.
        for (name, _) in chains.extract_if(.., |_, found| found.is_base) {
            self.writer.flush_chain(About::Table, &name);
            self.writer.delete_chain(About::Table, &name);
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
