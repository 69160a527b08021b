//! What was told, as hashes.

use std::collections::HashMap;

/// What was told of one kind.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// By name. An object takes some 150 bytes, of which half are its name.
    known: HashMap<Box<str>, Mark>,
    /// How many lists began.
    lists: u32,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    /// The hash of what was told.
    print: u64,
    /// In which list, or since which, it was seen last.
    list: u32,
}

impl Memory {
    /// A list of all objects begins.
    pub fn begin(&mut self) {
        self.lists = self.lists.wrapping_add(1);
    }

    /// An object is there, and says this. Answers whether that is new.
    pub fn note(&mut self, name: Box<str>, print: u64) -> bool {
        let mark = Mark { print, list: self.lists };
        self.known.insert(name, mark).is_none_or(|before| before.print != print)
    }

    /// An object is gone. Answers whether it was there.
    pub fn forget(&mut self, name: &str) -> bool {
        self.known.remove(name).is_some()
    }

    /// The list is complete. Answers, in order, which objects were there before it and are not in it.
    pub fn vanished(&mut self) -> Vec<Box<str>> {
        let list = self.lists;
        let mut names: Vec<_> = self.known.extract_if(|_, mark| mark.list != list).map(|(name, _)| name).collect();
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_or_different_is_told() {
        let mut memory = Memory::default();
        assert!(memory.note("a".into(), 1));
        assert!(!memory.note("a".into(), 1));
        assert!(memory.note("a".into(), 2));
        assert!(memory.forget("a"));
        assert!(!memory.forget("a"));
        assert!(memory.note("a".into(), 2));
    }

    #[test]
    fn what_a_list_does_not_hold_has_vanished() {
        let mut memory = Memory::default();
        memory.begin();
        for name in ["a", "b", "c"] {
            memory.note(name.into(), 1);
        }
        assert_eq!(memory.vanished(), []);
        memory.note("d".into(), 1);
        memory.begin();
        assert!(!memory.note("b".into(), 1));
        // The list began anew, because it broke off.
        memory.begin();
        assert!(!memory.note("c".into(), 1));
        assert_eq!(memory.vanished(), ["a".into(), "b".into(), "d".into()]);
        assert_eq!(memory.vanished(), []);
        assert!(memory.note("a".into(), 1));
    }
}
