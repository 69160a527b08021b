//! The way from one bundle to the next: computed, put together with a later one, and gone.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::bundle::{Bundle, Delta, Members, SetDelta, SetId};

#[cfg(test)]
pub(super) mod tests;

/// A change that does not fit what it is to change. Nothing of it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Misfit {
    /// It has members come or go of a set that is not there.
    #[error("set {0} is to be changed, and is not there: ask for the whole state")]
    Missing(SetId),
    /// It has members of another kind than the set's come or go, or changes ranges, which never change.
    #[error("set {0} is to be changed by members of another kind than its own: ask for the whole state")]
    Kind(SetId),
}

impl Delta {
    /// What leads from one bundle to another: nothing where they are equal.
    pub fn between(from: &Bundle, to: &Bundle) -> Self {
        Self {
            is_enforced: (from.is_enforced != to.is_enforced).then_some(to.is_enforced),
            pods: between_maps(&from.pods, &to.pods),
            profiles: between_maps(&from.profiles, &to.profiles),
            sets: between_sets(&from.sets, &to.sets),
        }
    }

    /// Puts a later change behind this one: applied, both together do what one after the other would have done.
    pub fn merge(&mut self, later: Self) -> Result<(), Misfit> {
        let misfit = later.sets.iter().find_map(|(id, change)| self.sets.get(id)?.misfit_before(*id, change));
        if let Some(misfit) = misfit {
            return Err(misfit);
        }
        self.is_enforced = later.is_enforced.or(self.is_enforced);
        self.pods.extend(later.pods);
        self.profiles.extend(later.profiles);
        for (id, change) in later.sets {
            let merged = match self.sets.remove(&id) {
                Some(earlier) => earlier.then(change),
                None => change,
            };
            self.sets.insert(id, merged);
        }
        Ok(())
    }
}

impl SetDelta {
    fn misfit_before(&self, id: SetId, later: &Self) -> Option<Misfit> {
        match (self, later) {
            (_, Self::New(_) | Self::Gone) => None,
            (Self::Gone, Self::Change { .. }) => Some(Misfit::Missing(id)),
            (Self::New(members) | Self::Change { add: members, .. }, Self::Change { add, remove }) => {
                (!members.takes(add) || !members.takes(remove)).then_some(Misfit::Kind(id))
            }
        }
    }

    fn then(self, later: Self) -> Self {
        match (self, later) {
            (Self::New(mut members), Self::Change { add, remove }) => {
                members.remove_all(&remove);
                members.add_all(add);
                Self::New(members)
            }
            (Self::Change { add: mut coming, remove: mut going }, Self::Change { mut add, mut remove }) => {
                // Who came and goes, or went and comes, is as before.
                let back = add.common(&going);
                let away = remove.common(&coming);
                going.remove_all(&back);
                coming.remove_all(&away);
                add.remove_all(&back);
                remove.remove_all(&away);
                coming.add_all(add);
                going.add_all(remove);
                Self::Change { add: coming, remove: going }
            }
            (_, later) => later,
        }
    }
}

impl Bundle {
    /// Applies a change as a whole, and tells what became different by it: without what was so before, and with the
    /// members that come and go where a whole set was given anew.
    pub fn apply(&mut self, delta: Delta) -> Result<Delta, Misfit> {
        let effect = self.preview(delta)?;
        self.is_enforced = effect.is_enforced.unwrap_or(self.is_enforced);
        apply_to_map(&mut self.pods, &effect.pods);
        apply_to_map(&mut self.profiles, &effect.profiles);
        for (id, change) in &effect.sets {
            self.change_set(*id, change);
        }
        Ok(effect)
    }

    /// What would become different by a change, in the same terms.
    pub fn preview(&self, delta: Delta) -> Result<Delta, Misfit> {
        let mut sets = BTreeMap::new();
        for (id, change) in delta.sets {
            if let Some(effect) = self.effect_on_set(id, change)? {
                sets.insert(id, effect);
            }
        }
        Ok(Delta {
            is_enforced: delta.is_enforced.filter(|now| *now != self.is_enforced),
            pods: effect_on_map(&self.pods, delta.pods),
            profiles: effect_on_map(&self.profiles, delta.profiles),
            sets,
        })
    }

    fn effect_on_set(&self, id: SetId, change: SetDelta) -> Result<Option<SetDelta>, Misfit> {
        let before = self.sets.get(&id);
        match (before, change) {
            (None, SetDelta::Gone) => Ok(None),
            (Some(_), SetDelta::Gone) => Ok(Some(SetDelta::Gone)),
            (Some(before), SetDelta::New(members)) => Ok(before.way_to(&members)),
            (None, SetDelta::New(members)) => Ok(Some(SetDelta::New(members))),
            (None, SetDelta::Change { .. }) => Err(Misfit::Missing(id)),
            (Some(members), SetDelta::Change { mut add, remove }) => {
                if !members.takes(&add) || !members.takes(&remove) {
                    return Err(Misfit::Kind(id));
                }
                add.remove_all(&add.common(members));
                let remove = remove.common(members);
                Ok((!add.is_empty() || !remove.is_empty()).then_some(SetDelta::Change { add, remove }))
            }
        }
    }

    /// Takes over what becomes different.
    fn change_set(&mut self, id: SetId, change: &SetDelta) {
        match change {
            SetDelta::Gone => _ = self.sets.remove(&id),
            SetDelta::New(members) => _ = self.sets.insert(id, members.clone()),
            SetDelta::Change { add, remove } => {
                if let Some(members) = self.sets.get_mut(&id) {
                    members.remove_all(remove);
                    members.add_all(add.clone());
                }
            }
        }
    }
}

impl Members {
    /// None of the same kind.
    fn none(&self) -> Self {
        match self {
            Self::Addresses(_) => Self::Addresses(BTreeSet::new()),
            Self::Ports(_) => Self::Ports(BTreeSet::new()),
            Self::Ranges(_) => Self::Ranges(Vec::new()),
        }
    }

    /// Whether members like these may come and go.
    fn takes(&self, others: &Self) -> bool {
        matches!((self, others), (Self::Addresses(_), Self::Addresses(_)) | (Self::Ports(_), Self::Ports(_)))
    }

    /// Who is in this and not in the other, of the same kind; all of this where the kinds differ.
    fn without(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Addresses(mine), Self::Addresses(others)) => {
                Self::Addresses(mine.difference(others).copied().collect())
            }
            (Self::Ports(mine), Self::Ports(others)) => Self::Ports(mine.difference(others).copied().collect()),
            _ => self.clone(),
        }
    }

    /// Who is in both: looked up from this one, which is to be the smaller.
    fn common(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Addresses(few), Self::Addresses(many)) => {
                Self::Addresses(few.iter().filter(|m| many.contains(m)).copied().collect())
            }
            (Self::Ports(few), Self::Ports(many)) => {
                Self::Ports(few.iter().filter(|m| many.contains(m)).copied().collect())
            }
            _ => self.none(),
        }
    }

    fn add_all(&mut self, others: Self) {
        match (self, others) {
            (Self::Addresses(mine), Self::Addresses(others)) => mine.extend(others),
            (Self::Ports(mine), Self::Ports(others)) => mine.extend(others),
            _ => {}
        }
    }

    fn remove_all(&mut self, others: &Self) {
        match (self, others) {
            (Self::Addresses(mine), Self::Addresses(others)) => remove_all(mine, others),
            (Self::Ports(mine), Self::Ports(others)) => remove_all(mine, others),
            _ => {}
        }
    }

    /// What makes this the other; nothing where they are equal.
    fn way_to(&self, other: &Self) -> Option<SetDelta> {
        if self == other {
            None
        } else if self.takes(other) {
            Some(SetDelta::Change { add: other.without(self), remove: self.without(other) })
        } else {
            Some(SetDelta::New(other.clone()))
        }
    }
}

/// Goes through the smaller of the two.
fn remove_all<T: Ord>(from: &mut BTreeSet<T>, others: &BTreeSet<T>) {
    if others.len() <= from.len() {
        for other in others {
            from.remove(other);
        }
    } else {
        from.retain(|member| !others.contains(member));
    }
}

fn between_maps<K: Ord + Clone, V: PartialEq + Clone>(
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
) -> BTreeMap<K, Option<V>> {
    let gone = from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), None));
    let new = to.iter().filter(|(key, value)| from.get(*key) != Some(value));
    gone.chain(new.map(|(key, value)| (key.clone(), Some(value.clone())))).collect()
}

fn between_sets(from: &BTreeMap<SetId, Members>, to: &BTreeMap<SetId, Members>) -> BTreeMap<SetId, SetDelta> {
    let gone = from.keys().filter(|id| !to.contains_key(id)).map(|id| (*id, SetDelta::Gone));
    let new = to.iter().filter_map(|(id, members)| match from.get(id) {
        Some(before) => Some((*id, before.way_to(members)?)),
        None => Some((*id, SetDelta::New(members.clone()))),
    });
    gone.chain(new).collect()
}

fn apply_to_map<K: Ord + Clone, V: Clone>(map: &mut BTreeMap<K, V>, effect: &BTreeMap<K, Option<V>>) {
    for (key, value) in effect {
        match value {
            Some(value) => _ = map.insert(key.clone(), value.clone()),
            None => _ = map.remove(key),
        }
    }
}

/// What of a change is not so already.
fn effect_on_map<K: Ord, V: PartialEq>(map: &BTreeMap<K, V>, change: BTreeMap<K, Option<V>>) -> BTreeMap<K, Option<V>> {
    change.into_iter().filter(|(key, value)| map.get(key) != value.as_ref()).collect()
}
