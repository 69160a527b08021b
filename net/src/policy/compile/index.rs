//! Selectors by a label that they ask for, so that labels find theirs without trying all.

use fnv::FnvHashMap;

use super::ids::{Id, IdSet, Sym};
use super::selector::{Anchor, Needs};

/// Selectors of several places (scopes), each found only from its own.
#[derive(Debug)]
pub struct Index<P, I> {
    values: FnvHashMap<(P, Sym, Sym), IdSet<I>>,
    keys: FnvHashMap<(P, Sym), IdSet<I>>,
    others: FnvHashMap<P, IdSet<I>>,
}

impl<P, I> Default for Index<P, I> {
    fn default() -> Self {
        Self { values: FnvHashMap::default(), keys: FnvHashMap::default(), others: FnvHashMap::default() }
    }
}

impl<P: Copy + Eq + std::hash::Hash, I: Id> Index<P, I> {
    pub fn add(&mut self, place: P, needs: &Needs, id: I) {
        match needs.anchor() {
            Anchor::Values(key, values) => {
                for value in values {
                    self.values.entry((place, key, *value)).or_default().insert(id);
                }
            }
            Anchor::Key(key) => self.keys.entry((place, key)).or_default().insert(id),
            Anchor::None => self.others.entry(place).or_default().insert(id),
        }
    }

    pub fn remove(&mut self, place: P, needs: &Needs, id: I) {
        match needs.anchor() {
            Anchor::Values(key, values) => {
                for value in values {
                    remove(&mut self.values, (place, key, *value), id);
                }
            }
            Anchor::Key(key) => remove(&mut self.keys, (place, key), id),
            Anchor::None => remove(&mut self.others, place, id),
        }
    }

    /// The selectors of a place that may select what has these labels, each once.
    pub fn candidates<'a>(&'a self, place: P, labels: &'a [(Sym, Sym)]) -> impl Iterator<Item = I> + 'a {
        let values = labels.iter().filter_map(move |(key, value)| self.values.get(&(place, *key, *value)));
        let keyed = if self.keys.is_empty() { &[] } else { labels };
        let keys = keyed.iter().filter_map(move |(key, _)| self.keys.get(&(place, *key)));
        values.chain(keys).chain(self.others.get(&place)).flat_map(IdSet::iter)
    }
}

/// Numbers by labels of what they are of.
pub type ByLabel<I> = FnvHashMap<(Sym, Sym), IdSet<I>>;

/// Takes a number out, and leaves no empty entry.
pub fn remove<K: Eq + std::hash::Hash, I: Id>(map: &mut FnvHashMap<K, IdSet<I>>, key: K, id: I) {
    if let std::collections::hash_map::Entry::Occupied(mut entry) = map.entry(key) {
        entry.get_mut().remove(id);
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}
