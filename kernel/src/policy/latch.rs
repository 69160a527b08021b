//! The table `inet towpath-latch`, which keeps pods closed where there is no table of policies.
//!
//! Where the kernel knows of that (Linux 6.9), it belongs to the socket of whoever made it: nobody else can take it away,
//! not even with all tables at once. It stays without its owner, and who comes next takes it over.

use std::collections::BTreeMap;

use towpath_net::nft::{Base, Chain, Rule};
use towpath_net::policy::latch::{TABLE, chains};

use super::{About, Error, PolicyTable, Writer};
use crate::nft::numbers::{TABLE_OWNED, TABLE_STAYS};

/// A chain as it is told: where the kernel enters it, and its rules.
type Told = (Option<Base>, Vec<Rule>);

impl PolicyTable {
    /// Shuts the latch where it is not: nothing begins any more but what the table of policies lets through.
    pub(super) fn close_latch(&mut self) -> Result<(), Error> {
        let flags = self.flags(TABLE)?;
        match flags {
            Some(flags) if self.is_latch_right(flags)? => {
                if flags == TABLE_STAYS {
                    self.take_over()?;
                }
                Ok(())
            }
            found => match self.make_latch(found.is_some(), TABLE_OWNED | TABLE_STAYS) {
                // A kernel that knows of no owners that tables outlive.
                Err(Error::Netlink(error)) if error.is_unsupported() => {
                    self.writer = Writer::new();
                    self.make_latch(found.is_some(), 0)
                }
                other => other,
            },
        }
    }

    /// Takes the latch away, where it is.
    pub(super) fn open_latch(&mut self) -> Result<(), Error> {
        if self.flags(TABLE)?.is_none() {
            return Ok(());
        }
        self.write_latch(|writer| writer.delete_table(About::Latch))
    }

    /// An earlier agent left it. Nothing of it was wrong, so nothing was written that anybody need know of.
    fn take_over(&mut self) -> Result<(), Error> {
        let written = self.written;
        self.write_latch(|writer| writer.flagged_table(About::Latch, TABLE_OWNED | TABLE_STAYS))?;
        self.written = written;
        Ok(())
    }

    fn is_latch_right(&mut self, flags: u32) -> Result<bool, Error> {
        let mut found: BTreeMap<String, Told> = BTreeMap::new();
        self.each_chain(TABLE, |name, _, base| _ = found.insert(name, (base, Vec::new())))?;
        self.each_rule(TABLE, |chain, rule| {
            if let Some((_, rules)) = found.get_mut(chain) {
                rules.push(rule.clone());
            }
        })?;
        let told = |(name, Chain { base, rules }): (&str, Chain)| (name.to_owned(), (base, rules));
        let is_awake = flags & !(TABLE_OWNED | TABLE_STAYS) == 0;
        Ok(is_awake && found == chains().into_iter().map(told).collect())
    }

    fn make_latch(&mut self, is_there: bool, flags: u32) -> Result<(), Error> {
        self.write_latch(|writer| {
            if is_there {
                writer.delete_table(About::Latch);
            }
            writer.flagged_table(About::Latch, flags);
            for (name, chain) in chains() {
                writer.new_chain(About::Latch, name, &chain);
                for rule in &chain.rules {
                    writer.rule(About::Latch, name, rule);
                }
            }
        })
    }

    fn write_latch(&mut self, write: impl FnOnce(&mut Writer<About>)) -> Result<(), Error> {
        self.writer.turn_to(TABLE);
        write(&mut self.writer);
        let written = self.commit();
        self.writer.turn_to(towpath_net::policy::objects::TABLE);
        written
    }
}
