//! Kernel settings.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use towpath_net::observed::Sysctl;

/// Where settings are on every Linux; those of the network are the calling thread's namespace's.
pub const ROOT: &str = "/proc/sys";

/// A setting that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("read sysctl {key}: {source}")]
    Read {
        /// Which.
        key: Sysctl,
        /// Why.
        source: io::Error,
    },
    /// It could not be written.
    #[error("set sysctl {key} = {value}: {source}")]
    Write {
        /// Which.
        key: Sysctl,
        /// To what.
        value: String,
        /// Why.
        source: io::Error,
    },
}

/// The settings below one folder: [`ROOT`], or where a container has those of its node.
#[derive(Clone, Debug)]
pub struct Sysctls {
    root: PathBuf,
}

impl Sysctls {
    /// The settings below `root`.
    pub fn below(root: impl AsRef<Path>) -> Self {
        Self { root: root.as_ref().to_owned() }
    }

    /// Reads a setting; nothing where the kernel does not have it.
    pub fn read(&self, key: &Sysctl) -> Result<Option<String>, Error> {
        match fs::read_to_string(self.root.join(&key.0)) {
            Ok(value) => Ok(Some(value.trim_end().to_owned())),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { key: key.clone(), source }),
        }
    }

    /// Writes a setting.
    pub fn write(&self, key: &Sysctl, value: &str) -> Result<(), Error> {
        // Opened without creating: a missing setting is an error, not a file.
        let written = fs::OpenOptions::new()
            .write(true)
            .open(self.root.join(&key.0))
            .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
        written.map_err(|source| Error::Write { key: key.clone(), value: value.to_owned(), source })
    }

    /// Writes a setting where the kernel has it; tells whether it does.
    pub fn write_existing(&self, key: &Sysctl, value: &str) -> Result<bool, Error> {
        match self.write(key, value) {
            Err(Error::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Writes a setting where it has another value; tells whether it was written.
    pub fn ensure(&self, key: &Sysctl, value: &str) -> Result<bool, Error> {
        if self.read(key)?.as_deref() == Some(value) {
            return Ok(false);
        }
        self.write(key, value).map(|()| true)
    }
}
