//! What keeps connections cut.

use towpath_net::Family;
use towpath_net::policy::objects::cut_set;

use super::encode::{Element, Key};
use super::{About, Error, PolicyTable, Written};
use crate::conntrack::Connection;

impl PolicyTable {
    /// Lets no answers of these connections through, as long as somebody may send any, so that they do not begin them anew.
    /// Nothing happens where there is no table. It goes before the kernel forgets them.
    pub fn end_answers<'a>(&mut self, connections: impl IntoIterator<Item = &'a Connection>) -> Result<Written, Error> {
        let answers: Vec<_> = connections.into_iter().filter_map(|connection| connection.answers).collect();
        if answers.is_empty() || !self.exists()? {
            return Ok(Written::default());
        }
        self.attempt(|table| {
            for family in Family::ALL {
                let ours = answers.iter().filter(|(from, _)| Family::of(from.ip()) == family);
                let elements: Vec<Element> = ours.map(|(from, to)| Key::of_packets(*from, *to).into()).collect();
                table.writer.add(About::Part(cut_set(family)), cut_set(family), elements);
            }
            table.commit()
        })?;
        Ok(self.take_written())
    }
}
