//! The names in a folder of leases.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use crate::fs::{Error, Operation};

/// Lists the names of a folder, in order, without those of files that are still being written; none where there is no
/// folder.
pub fn list(folder: &Path) -> Result<Vec<OsString>, Error> {
    let mut names = unordered(folder)?;
    names.retain(|name| !is_unfinished(name));
    names.sort_unstable();
    Ok(names)
}

/// Removes files that were still being written. Only under the lock, when nobody writes.
pub fn remove_unfinished(folder: &Path) -> Result<(), Error> {
    for name in unordered(folder)?.into_iter().filter(is_unfinished) {
        crate::fs::remove(&folder.join(name))?;
    }
    Ok(())
}

/// Lists all names of a folder.
pub fn unordered(folder: &Path) -> Result<Vec<OsString>, Error> {
    let failed = |source| Error::new(Operation::Read, folder, source);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let names: io::Result<Vec<OsString>> = entries.map(|entry| Ok(entry?.file_name())).collect();
    names.map_err(failed)
}

/// A container id begins with a letter or a digit, an address never with a dot.
fn is_unfinished(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}
