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

/// What came of ending answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswersEnded {
    /// What was written.
    pub written: Written,
    /// How many answers do not end: there is no room for more.
    pub left_out: usize,
}

/// Answers that end, and until when: a table that somebody takes away takes these along.
#[derive(Debug, Default)]
pub(super) struct Ended {
    until: BTreeMap<(Family, Key), Instant>,
    /// Whether those are among them that the kernel had before.
    is_complete: bool,
}

impl Ended {
    /// As many as the kernel has at most: leaves those that there is room for, and tells how many others there were.
    fn insert(&mut self, keys: &mut Vec<(Family, Key)>, now: Instant) -> usize {
        let all = keys.len();
        // Once for all of them: it goes through all that there are.
        if self.until.len() + all > MOST as usize {
            self.until.retain(|_, until| *until > now);
        }
        let until = BTreeMap::from(Family::ALL.map(|family| (family, now + stay(family))));
        keys.retain(|key| {
            let has_room = self.until.len() < MOST as usize || self.until.contains_key(key);
            if has_room {
                self.until.insert(*key, until.get(&key.0).copied().unwrap_or(now));
            }
            has_room
        });
        all - keys.len()
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
    pub fn end_answers<'a>(
        &mut self,
        connections: impl IntoIterator<Item = &'a Connection>,
    ) -> Result<AnswersEnded, Error> {
        let answers = connections.into_iter().filter_map(|connection| connection.answers);
        let keys = answers.map(|(from, to)| (Family::of(from.ip()), Key::of_packets(from, to))).collect();
        self.end(keys)
    }

    /// What there is no room for does not keep the others from ending.
    fn end(&mut self, mut keys: Vec<(Family, Key)>) -> Result<AnswersEnded, Error> {
        if keys.is_empty() || !self.exists()? {
            return Ok(AnswersEnded::default());
        }
        let left_out = self.ended.insert(&mut keys, Instant::now());
        self.attempt(|table| {
            for family in Family::ALL {
                let ours = keys.iter().filter(|(of, _)| *of == family);
                table.end_in(family, &ours.map(|(_, key)| (*key).into()).collect::<Vec<_>>())?;
            }
            table.commit()
        })?;
        Ok(AnswersEnded { written: self.take_written(), left_out })
    }

    /// Finds out what an earlier agent ended, once, where there is a table.
    pub(super) fn learn_ended(&mut self) -> Result<(), Error> {
        if self.ended.is_complete {
            return Ok(());
        }
        let mut found = Vec::new();
        for family in Family::ALL {
            let told = self.each_element(cut_set(family), |element| found.push((family, element.key)));
            match told {
                // Somebody else's table may lack it.
                Err(Error::Netlink(error)) if error.is_missing() => {}
                other => other?,
            }
        }
        found.retain(|(_, key)| *key != Key::REST);
        // What is left out stays where it is.
        self.ended.insert(&mut found, Instant::now());
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
