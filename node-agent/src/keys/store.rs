//! The file that keeps the node's private keys: the only place besides the kernel.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use thiserror::Error;
use towpath_kernel::fs;
use towpath_kernel::wireguard::PrivateKey;
use towpath_net::rotation::Moment;
use towpath_net::transport::Slot;
use zeroize::Zeroizing;

use crate::memory::{MemoryError, make_folder};
use crate::paths::folder;

/// Why the keys could not be read, made or kept.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// Its folder could not be made.
    #[error(transparent)]
    Folder(#[from] MemoryError),
    /// There were no random numbers.
    #[error("cannot make a WireGuard key: {0}")]
    Random(#[source] io::Error),
    /// It is not what the agent writes. What it holds is not repeated.
    #[error("{path} is damaged in line {line}: the keys in it are lost")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
    },
    /// The keys have no text: only the memory being full can be the reason.
    #[error("cannot write the keys to {0}")]
    Unwritable(PathBuf),
}

/// Both keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stored {
    /// The slot that the node sends by.
    pub active: Slot,
    /// Of the first device.
    pub first: StoredKey,
    /// Of the second device.
    pub second: StoredKey,
    /// When a new key was last taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<Moment>,
}

/// One key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoredKey {
    /// The key.
    #[serde(serialize_with = "reveal", deserialize_with = "parse")]
    pub private: PrivateKey,
    /// When it was made; once the kernel has it, when the kernel first had it.
    pub made: Moment,
    /// Whether the kernel has it: nobody is told of it before.
    pub is_in_kernel: bool,
    /// The one before, for as long as this one can be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// A key that was made anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Before {
    /// The key.
    #[serde(serialize_with = "reveal", deserialize_with = "parse")]
    pub private: PrivateKey,
    /// When it was made.
    pub made: Moment,
}

impl Stored {
    /// Two new ones.
    pub fn generate(now: Moment) -> Result<Self, KeysError> {
        let (first, second) = (StoredKey::generate(now)?, StoredKey::generate(now)?);
        Ok(Self { active: Slot::First, first, second, taken_back: None })
    }

    /// The key of a slot.
    pub const fn of(&self, slot: Slot) -> &StoredKey {
        match slot {
            Slot::First => &self.first,
            Slot::Second => &self.second,
        }
    }

    /// The same, to be changed.
    pub const fn of_mut(&mut self, slot: Slot) -> &mut StoredKey {
        match slot {
            Slot::First => &mut self.first,
            Slot::Second => &mut self.second,
        }
    }

    /// Reads the keys; nothing where there are none.
    pub fn read(path: &Path) -> Result<Option<Self>, KeysError> {
        let content = fs::read_optional(path)?.map(Zeroizing::new);
        let damaged = |error: serde_json::Error| KeysError::Damaged { path: path.to_owned(), line: error.line() };
        content.map(|bytes: Zeroizing<Vec<u8>>| serde_json::from_slice(&bytes).map_err(damaged)).transpose()
    }

    /// Keeps them, for nobody but root to read.
    pub fn keep(&self, path: &Path) -> Result<(), KeysError> {
        let unwritable = |_| KeysError::Unwritable(path.to_owned());
        let text = Zeroizing::new(serde_json::to_vec(self).map_err(unwritable)?);
        make_folder(folder(path))?;
        Ok(fs::write_atomically(path, &text, 0o600)?)
    }
}

impl StoredKey {
    /// A new one.
    pub fn generate(now: Moment) -> Result<Self, KeysError> {
        let private = PrivateKey::generate().map_err(KeysError::Random)?;
        Ok(Self { private, made: now, is_in_kernel: false, before: None })
    }
}

fn reveal<S: Serializer>(key: &PrivateKey, serializer: S) -> Result<S::Ok, S::Error> {
    ser::Serializer::serialize_str(serializer, &key.reveal())
}

fn parse<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PrivateKey, D::Error> {
    let text = Zeroizing::new(String::deserialize(deserializer)?);
    PrivateKey::parse(&text).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_keys_are_kept_for_root_alone_and_read_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent").join("wireguard.json");
        assert!(Stored::read(&path).unwrap().is_none());
        let mut keys = Stored::generate(7).unwrap();
        let before = Before { private: PrivateKey::generate().unwrap(), made: 3 };
        keys.second.before = Some(before.clone());
        keys.keep(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Stored::read(&path).unwrap().unwrap();
        assert_eq!(read.first.private.public(), keys.first.private.public());
        assert_eq!(read.second.before.unwrap().private.public(), before.private.public());
        assert_eq!((read.active, read.first.made, read.first.is_in_kernel), (Slot::First, 7, false));
    }

    #[test]
    fn neither_what_is_printed_of_them_nor_the_error_of_a_damaged_file_tells_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wireguard.json");
        let keys = Stored::generate(7).unwrap();
        keys.keep(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let secret = keys.first.private.reveal();
        assert!(text.contains(secret.as_str()));
        assert!(!format!("{keys:?}").contains(secret.as_str()));
        for bent in [text.replacen("=\"", "\"", 1), text.replacen("\"made\"", secret.as_str(), 1), format!("{text}x")] {
            std::fs::write(&path, bent).unwrap();
            let error = Stored::read(&path).unwrap_err();
            assert!(matches!(error, KeysError::Damaged { line: 1, .. }));
            assert!(!format!("{error} {error:?}").contains(secret.get(..20).unwrap()), "{error}");
        }
    }
}
