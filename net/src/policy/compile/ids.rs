//! Small numbers in place of names, and where things with such numbers are kept.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

use fnv::FnvHashSet;

/// The number of one kind of thing.
pub trait Id: Copy + Ord {
    /// The number as such.
    fn number(self) -> u32;
    /// Of a number.
    fn of(number: u32) -> Self;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl Id for $name {
            fn number(self) -> u32 {
                self.0
            }

            fn of(number: u32) -> Self {
                Self(number)
            }
        }
    )*};
}

ids! {
    /// A text: a key or a value of labels, the name of a port.
    Sym,
    /// A namespace.
    NamespaceId,
    /// Namespaces that selectors are for.
    ScopeId,
    /// A selector of pods.
    AtomId,
    /// Pods that are alike to every selector.
    ClassId,
    /// A pod.
    PodId,
    /// A node.
    NodeId,
    /// A selector of nodes.
    GroupId,
    /// A policy, in one version of it.
    PolicyId,
    /// The policies that select a pod, with what they must know of it.
    RecipeId,
    /// A profile.
    ProfileNo,
    /// A set.
    SetNo,
    /// A pod or a node, as one that has an address.
    OwnerId
}

/// Things by their numbers. The number of one that is gone is given again only after [`Self::recycle`]: nothing that is
/// still to be told of the old one becomes that of another.
#[derive(Debug)]
pub struct Slab<K, T> {
    items: Vec<T>,
    free: Vec<u32>,
    gone: Vec<u32>,
    kind: PhantomData<K>,
}

impl<K, T> Default for Slab<K, T> {
    fn default() -> Self {
        Self { items: Vec::new(), free: Vec::new(), gone: Vec::new(), kind: PhantomData }
    }
}

impl<K: Id, T: Default> Slab<K, T> {
    pub fn insert(&mut self, item: T) -> K {
        if let Some(number) = self.free.pop() {
            self.items[number as usize] = item;
            return K::of(number);
        }
        self.items.push(item);
        K::of(u32::try_from(self.items.len() - 1).unwrap_or(u32::MAX))
    }

    pub fn remove(&mut self, id: K) -> T {
        self.gone.push(id.number());
        std::mem::take(&mut self[id])
    }

    pub fn recycle(&mut self) {
        self.free.append(&mut self.gone);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len() - self.free.len() - self.gone.len()
    }
}

impl<K: Id, T> Index<K> for Slab<K, T> {
    type Output = T;

    fn index(&self, id: K) -> &T {
        &self.items[id.number() as usize]
    }
}

impl<K: Id, T> IndexMut<K> for Slab<K, T> {
    fn index_mut(&mut self, id: K) -> &mut T {
        &mut self.items[id.number() as usize]
    }
}

/// Numbers without an order. Most hold very few: those need no memory of their own.
#[derive(Clone, Debug)]
pub struct IdSet<K> {
    ids: Ids,
    kind: PhantomData<K>,
}

#[derive(Clone, Debug)]
enum Ids {
    Inline { len: u32, ids: [u32; INLINE] },
    Few(Vec<u32>),
    Many(Box<FnvHashSet<u32>>),
}

/// As many as fit beside a length where a `Vec` would be.
const INLINE: usize = 3;
/// Up to here, looking at each is quicker than hashing.
const FEW: usize = 24;

impl<K> Default for IdSet<K> {
    fn default() -> Self {
        Self { ids: Ids::Inline { len: 0, ids: [0; INLINE] }, kind: PhantomData }
    }
}

impl<K: Id> IdSet<K> {
    /// Adds one that is not there yet.
    pub fn insert(&mut self, id: K) {
        let id = id.number();
        match &mut self.ids {
            Ids::Inline { len, ids } if (*len as usize) < INLINE => {
                ids[*len as usize] = id;
                *len += 1;
            }
            Ids::Inline { ids, .. } => {
                let mut few = Vec::with_capacity(2 * INLINE);
                few.extend_from_slice(ids);
                few.push(id);
                self.ids = Ids::Few(few);
            }
            Ids::Few(few) if few.len() < FEW => few.push(id),
            Ids::Few(few) => self.ids = Ids::Many(Box::new(few.iter().copied().chain([id]).collect())),
            Ids::Many(many) => {
                many.insert(id);
            }
        }
    }

    pub fn remove(&mut self, id: K) {
        let id = id.number();
        match &mut self.ids {
            Ids::Inline { len, ids } => {
                if let Some(at) = ids[..*len as usize].iter().position(|other| *other == id) {
                    *len -= 1;
                    ids[at] = ids[*len as usize];
                }
            }
            Ids::Few(few) => {
                if let Some(at) = few.iter().position(|other| *other == id) {
                    few.swap_remove(at);
                }
            }
            Ids::Many(many) => {
                many.remove(&id);
            }
        }
    }

    pub fn len(&self) -> usize {
        match &self.ids {
            Ids::Inline { len, .. } => *len as usize,
            Ids::Few(few) => few.len(),
            Ids::Many(many) => many.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn contains(&self, id: K) -> bool {
        let (some, many) = self.parts();
        some.contains(&id.number()) || many.is_some_and(|many| many.contains(&id.number()))
    }

    pub fn iter(&self) -> impl Iterator<Item = K> {
        let (some, many) = self.parts();
        some.iter().chain(many.into_iter().flatten()).map(|id| K::of(*id))
    }

    fn parts(&self) -> (&[u32], Option<&FnvHashSet<u32>>) {
        match &self.ids {
            Ids::Inline { len, ids } => (&ids[..*len as usize], None),
            Ids::Few(few) => (few, None),
            Ids::Many(many) => (&[], Some(many)),
        }
    }
}

/// Whether two sorted lists have something in common; quick where the first is short.
pub fn have_common<K: Id>(few: &[K], many: &[K]) -> bool {
    few.iter().any(|id| many.binary_search(id).is_ok())
}

/// Who is only in one of two sorted lists.
pub fn differing<K: Id>(one: &[K], other: &[K]) -> Vec<K> {
    let only = |these: &[K], those: &[K]| -> Vec<K> {
        these.iter().filter(|id| those.binary_search(id).is_err()).copied().collect()
    };
    let mut all = only(one, other);
    all.extend(only(other, one));
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_of_numbers_is_a_set(events in proptest::collection::vec((any::<bool>(), 0..60_u32), 0..300)) {
            let (mut set, mut model) = (IdSet::<PodId>::default(), BTreeSet::new());
            for (is_in, number) in events {
                let id = PodId::of(number);
                prop_assert_eq!(set.contains(id), model.contains(&id));
                if is_in && model.insert(id) {
                    set.insert(id);
                } else if !is_in {
                    model.remove(&id);
                    set.remove(id);
                }
                prop_assert_eq!(set.len(), model.len());
            }
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), model);
        }
    }

    #[test]
    fn a_number_is_given_again_only_when_nothing_can_mean_the_old_one() {
        let mut slab = Slab::<PodId, u8>::default();
        let first = slab.insert(1);
        assert_eq!(slab.remove(first), 1);
        assert_ne!(slab.insert(2), first);
        slab.recycle();
        assert_eq!(slab.insert(3), first);
    }
}
