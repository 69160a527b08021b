//! Names of links, in place: there are thousands of objects that name one each.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use serde::{Serialize, Serializer};

/// The longest name that the kernel takes, in bytes (`IFNAMSIZ` less the zero behind it).
const LONGEST: usize = 15;

/// The name of a link.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkName {
    /// Zeros behind the name: so names are in the order of their texts.
    bytes: [u8; LONGEST],
    length: u8,
}

impl LinkName {
    /// As a text.
    pub fn as_str(&self) -> &str {
        let name = self.bytes.get(..self.length.into()).unwrap_or_default();
        std::str::from_utf8(name).unwrap_or_default()
    }
}

/// What is too long for the kernel's name of any link is cut, and so that of none.
impl From<&str> for LinkName {
    fn from(name: &str) -> Self {
        let name = name.get(..name.floor_char_boundary(LONGEST)).unwrap_or_default();
        let mut bytes = [0; LONGEST];
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Self { bytes, length: u8::try_from(name.len()).unwrap_or_default() }
    }
}

impl Deref for LinkName {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for LinkName {
    fn borrow(&self) -> &str {
        self
    }
}

/// As its text.
impl Hash for LinkName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq<str> for LinkName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for LinkName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for LinkName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_they_were_and_in_the_same_order() {
        let names = ["", "eth0", "eth0.1", "tow", "tow000000000000", "towvxlan4", "wörld"];
        assert_eq!(names.map(|name| LinkName::from(name).to_string()), names);
        assert!(names.map(LinkName::from).is_sorted());
    }

    #[test]
    fn what_no_link_can_be_named_is_cut() {
        assert_eq!(&*LinkName::from("sixteen-letters!"), "sixteen-letters");
        assert_eq!(&*LinkName::from("fourteen-bytesö"), "fourteen-bytes");
    }
}
