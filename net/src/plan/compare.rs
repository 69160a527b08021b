//! What is in two maps, side by side.

use std::collections::BTreeMap;
use std::iter::Peekable;

/// A key, and what both maps have of it; at least one has something.
type Both<'a, K, V> = (&'a K, Option<&'a V>, Option<&'a V>);

/// Every key of either map, in order, with what it is in each. In one pass over both: they are large, and mostly equal.
pub(super) fn side_by_side<'a, K: Ord, V>(
    left: &'a BTreeMap<K, V>,
    right: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = Both<'a, K, V>> {
    join(left.iter(), right.iter())
}

/// The same of what comes in the order of its keys, each once.
pub(super) fn join<'a, K: Ord + 'a, L, R>(
    left: impl Iterator<Item = (&'a K, L)>,
    right: impl Iterator<Item = (&'a K, R)>,
) -> impl Iterator<Item = (&'a K, Option<L>, Option<R>)> {
    let (mut left, mut right): (Peekable<_>, Peekable<_>) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || {
        let key = match (left.peek(), right.peek()) {
            (Some((a, _)), Some((b, _))) => (*a).min(*b),
            (Some((key, _)), None) => key,
            (None, key) => key.as_ref().map(|(key, _)| *key)?,
        };
        let ours = left.next_if(|(a, _)| *a == key).map(|(_, value)| value);
        let theirs = right.next_if(|(b, _)| *b == key).map(|(_, value)| value);
        Some((key, ours, theirs))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_once_and_in_order() {
        let (left, right) = (BTreeMap::from([(1, 'a'), (2, 'b'), (4, 'd')]), BTreeMap::from([(0, 'z'), (2, 'y')]));
        let joined: Vec<_> = side_by_side(&left, &right).map(|(k, l, r)| (*k, l.copied(), r.copied())).collect();
        let expected = [(0, None, Some('z')), (1, Some('a'), None), (2, Some('b'), Some('y')), (4, Some('d'), None)];
        assert_eq!(joined, expected);
    }
}
