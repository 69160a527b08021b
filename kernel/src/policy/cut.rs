//! What keeps connections cut.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use towpath_net::Family;
use towpath_net::policy::objects::cut_set;
use towpath_net::policy::skeleton::sets;

use super::encode::{Element, Key, MOST};
use super::write::SHORT;
use super::{About, Error, PolicyTable, Written};
use crate::conntrack::Connection;

/// Answers that end, and until when: a table that somebody takes away takes these along.
#[derive(Debug, Default)]
pub(super) struct Ended {
    until: BTreeMap<(Family, Key), Instant>,
    /// Whether those are among them that the kernel had before.
    is_complete: bool,
}

impl Ended {
    /// As many as the kernel has at most: whether there is room for it.
    fn insert(&mut self, family: Family, key: Key, now: Instant) -> bool {
        if self.until.len() >= MOST as usize {
            self.until.retain(|_, until| *until > now);
        }
        let has_room = self.until.len() < MOST as usize || self.until.contains_key(&(family, key));
        if has_room {
            self.until.insert((family, key), now + stay(family));
        }
        has_room
    }

    fn of(&self, family: Family, now: Instant) -> impl Iterator<Item = Element> {
        let ours = self.until.iter().filter(move |((of, _), until)| *of == family && **until > now);
        ours.map(|((_, key), _)| (*key).into())
    }
}

/// How long an answer that ends is remembered.
fn stay(family: Family) -> Duration {
    sets().get(cut_set(family)).and_then(|shape| shape.stay).unwrap_or_default()
}

impl PolicyTable {
    /// Lets no answers of these connections through, as long as somebody may send any, so that they do not begin them anew.
    /// Nothing happens where there is no table. It goes before the kernel forgets them.
    pub fn end_answers<'a>(&mut self, connections: impl IntoIterator<Item = &'a Connection>) -> Result<Written, Error> {
        let answers = connections.into_iter().filter_map(|connection| connection.answers);
        let keys = answers.map(|(from, to)| (Family::of(from.ip()), Key::of_packets(from, to))).collect();
        self.end(keys)
    }

    /// What there is no room for does not keep the others from ending.
    fn end(&mut self, mut keys: Vec<(Family, Key)>) -> Result<Written, Error> {
        if keys.is_empty() || !self.exists()? {
            return Ok(Written::default());
        }
        let now = Instant::now();
        keys.retain(|(family, key)| self.ended.insert(*family, *key, now));
        self.attempt(|table| {
            for family in Family::ALL {
                let ours = keys.iter().filter(|(of, _)| *of == family);
                table.end_in(family, &ours.map(|(_, key)| (*key).into()).collect::<Vec<_>>())?;
            }
            table.commit()
        })?;
        Ok(self.take_written())
    }

    /// Finds out what an earlier agent ended, once, where there is a table.
    pub(super) fn learn_ended(&mut self) -> Result<(), Error> {
        if self.ended.is_complete {
            return Ok(());
        }
        let now = Instant::now();
        for family in Family::ALL {
            let mut found = Vec::new();
            let told = self.each_element(cut_set(family), |element| found.push(element.key));
            match told {
                // Somebody else's table may lack it.
                Err(Error::Netlink(error)) if error.is_missing() => {}
                other => other?,
            }
            found.retain(|key| *key != Key::REST);
            for key in found {
                self.ended.insert(family, key, now);
            }
        }
        self.ended.is_complete = true;
        Ok(())
    }

    /// Goes on to end what was ended before the table was made anew.
    pub(super) fn end_again(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        for family in Family::ALL {
            self.end_in(family, &self.ended.of(family, now).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn end_in(&mut self, family: Family, elements: &[Element]) -> Result<(), Error> {
        for portion in elements.chunks(SHORT) {
            self.writer.add(About::Part(cut_set(family)), cut_set(family), portion.iter().cloned());
            self.roll(SHORT)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
