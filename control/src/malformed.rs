//! What is wrong with a message.

use std::fmt;

/// A message that does not say what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}; are both sides of a version that can talk to the other?")]
pub struct Malformed {
    /// Where: the fields from the outside in.
    pub field: String,
    /// What is wrong there.
    pub reason: Fault,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It must be there.
    Missing,
    /// It holds this many bytes, or entries, and must not.
    Length(usize),
    /// It holds a number that stands for nothing.
    Number(u64),
    /// Something is twice in it.
    Twice,
    /// It is in the wrong order.
    Order,
    /// It contradicts another.
    Contradiction,
    /// It is no Protocol Buffer.
    Encoding(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Length(length) => write!(f, "has a length of {length}, which it must not have"),
            Self::Number(number) => write!(f, "the number {number} stands for nothing"),
            Self::Twice => f.write_str("the same is in it twice"),
            Self::Order => f.write_str("is not in order"),
            Self::Contradiction => f.write_str("contradicts what was said before"),
            Self::Encoding(reason) => write!(f, "cannot be decoded: {reason}"),
        }
    }
}

impl Malformed {
    /// What is wrong with one field.
    pub fn new(field: &str, reason: Fault) -> Self {
        Self { field: field.to_owned(), reason }
    }

    /// The same, of a field of `outer`.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), reason: self.reason }
    }
}

/// Says in which field something is wrong.
pub(crate) trait Within<T> {
    fn within(self, outer: &str) -> Result<T, Malformed>;
}

impl<T> Within<T> for Result<T, Malformed> {
    fn within(self, outer: &str) -> Self {
        self.map_err(|error| error.within(outer))
    }
}

/// What must be there.
pub(crate) fn needed<T>(value: Option<T>, field: &str) -> Result<T, Malformed> {
    value.ok_or_else(|| Malformed::new(field, Fault::Missing))
}
