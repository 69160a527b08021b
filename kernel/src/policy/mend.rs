//! Putting right what differs, so that nothing that denies is missing meanwhile.
//!
//! What is large takes several transactions, and packets come between them. So rules come behind the members that they look
//! for, what leads to chains behind their rules, and ranges, which all go and come anew, in one transaction for each set. What
//! only old rules look for goes behind all that: until then packets come to them.

use std::hash::{Hash as _, Hasher as _};

use towpath_net::nft::Rule;
use towpath_net::nft::build::inner_chain;
use towpath_net::policy::skeleton::Shape;

use super::encode::Element;
use super::write::{LONG, PORTION, SHORT};
use super::{About, Error, PolicyTable};

/// What differs.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// The table is none of ours.
    pub is_foreign: bool,
    pub new_sets: Vec<(String, Shape)>,
    /// Chains with the rules that they should have; whether there is such a chain. Each behind those that it leads to.
    pub chains: Vec<(String, Vec<Rule>, bool)>,
    /// Who goes from sets and comes to them, and all that new ones have.
    pub members: Vec<Moves>,
    /// What sets of ranges should have that have others.
    pub blocks: Vec<(String, Vec<Element>)>,
    /// What goes from maps that are looked at and comes to them.
    pub leads: Vec<Moves>,
    pub old_chains: Vec<String>,
    pub old_sets: Vec<String>,
    /// Elements of common sets that belong to none that there should be.
    pub old_members: Vec<(&'static str, Vec<Element>)>,
}

/// Elements of a set, or map.
#[derive(Debug)]
pub(super) struct Moves {
    pub set: String,
    pub go: Vec<Element>,
    pub come: Vec<Element>,
}

impl Differences {
    /// Notes a chain whose rules are others than those that were found, by their hash.
    pub fn chain(&mut self, name: &str, rules: &[Rule], found: Option<&fnv::FnvHasher>) {
        let mut hash = fnv::FnvHasher::default();
        for rule in rules {
            rule.hash(&mut hash);
        }
        if found.is_none_or(|found| found.finish() != hash.finish()) {
            self.chains.push((name.to_owned(), rules.to_vec(), found.is_some()));
        }
    }
}

impl PolicyTable {
    /// Undoes all differences, in one transaction where that is short.
    pub(super) fn mend(&mut self, differences: &Differences) -> Result<(), Error> {
        let about = About::Table;
        for (name, ..) in differences.chains.iter().filter(|(.., is_there)| !is_there) {
            self.writer.new_chain(about, name, &inner_chain(Vec::new()));
            self.roll(LONG)?;
        }
        for (name, shape) in &differences.new_sets {
            self.writer.new_set(about, name, shape);
            self.roll(LONG)?;
        }
        self.mend_members(differences)?;
        for (name, rules, is_there) in &differences.chains {
            if *is_there {
                self.writer.flush_chain(about, name);
            }
            for rule in rules {
                self.writer.rule(about, name, rule);
            }
            self.roll(LONG)?;
        }
        if self.written.transactions > 0 {
            self.commit()?;
        }
        // A pod that is known stays so, though it leads elsewhere. All at once: what one sends and another gets is denied by
        // either of them, now by this one and then by that.
        for Moves { set, go, come } in &differences.leads {
            self.writer.remove(about, set, go.iter().cloned());
            self.writer.add(about, set, come.iter().cloned());
        }
        self.roll(LONG)?;
        self.drop_old(differences)?;
        self.commit()
    }

    /// Who goes before who comes.
    fn mend_members(&mut self, differences: &Differences) -> Result<(), Error> {
        let about = About::Table;
        for Moves { set, go, .. } in &differences.members {
            for portion in go.chunks(PORTION) {
                self.writer.remove(about, set, portion.iter().cloned());
                self.roll(LONG)?;
            }
        }
        for (name, elements) in &differences.blocks {
            self.writer.flush_set(about, name);
            self.writer.add(about, name, elements.iter().cloned());
            self.roll(LONG)?;
        }
        for Moves { set, come, .. } in &differences.members {
            for portion in come.chunks(PORTION) {
                self.writer.add(about, set, portion.iter().cloned());
                self.roll(LONG)?;
            }
        }
        Ok(())
    }

    /// Nothing leads there any more.
    fn drop_old(&mut self, differences: &Differences) -> Result<(), Error> {
        for name in &differences.old_chains {
            self.writer.flush_chain(About::Table, name);
            self.roll(LONG)?;
        }
        for name in &differences.old_sets {
            self.writer.delete_set(About::Table, name);
            self.roll(LONG)?;
        }
        for name in &differences.old_chains {
            self.writer.delete_chain(About::Table, name);
            self.roll(LONG)?;
        }
        for (set, members) in &differences.old_members {
            for portion in members.chunks(PORTION) {
                self.writer.remove(About::Table, set, portion.iter().cloned());
                self.roll(SHORT)?;
            }
        }
        Ok(())
    }
}
