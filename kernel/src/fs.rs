//! Files that are whole or not there, and locks that die with their holder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// A file that could not be read, written or locked.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}: {source}")]
pub struct Error {
    /// What was being done.
    pub operation: Operation,
    /// To which file.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl Error {
    /// An error of `operation` on `path`.
    pub fn new(operation: Operation, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self { operation, path: path.as_ref().to_owned(), source }
    }
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading it, or listing a folder.
    Read,
    /// Writing it, under whatever name.
    Write,
    /// Removing a name of it.
    Remove,
    /// Locking it.
    Lock,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Remove => "remove",
            Self::Lock => "lock",
        })
    }
}

/// Writes a file aside, in the same folder, and puts it in its place in one step: a reader sees all of the old
/// content or all of the new. `mode` is the file's permissions.
///
/// It is on the disk when this returns.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    put(path, content, mode, File::sync_all)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| Error::new(Operation::Write, path, source))
}

/// The same for a file that need not outlive a reboot.
pub fn write_volatile(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    put(path, content, mode, |_| Ok(()))
}

fn put(path: &Path, content: &[u8], mode: u32, sync: impl Fn(&File) -> io::Result<()>) -> Result<(), Error> {
    let aside = aside(path);
    let written = write_new(&aside, content, mode).and_then(|file| sync(&file)).and_then(|()| fs::rename(&aside, path));
    written.map_err(|source| {
        _ = fs::remove_file(&aside);
        Error::new(Operation::Write, path, source)
    })
}

/// The name that a file is written under before it is put in its place: hidden, and of this process alone.
pub(crate) fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

/// Writes a file that nobody else is writing; what a dead process of the same id left is replaced.
pub(crate) fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(mode).open(path)?;
    // Whatever the umask took away is given back.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    Ok(file)
}

/// Reads a file; nothing where there is none.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::new(Operation::Read, path, source)),
    }
}

/// Removes a file, if it is there.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::new(Operation::Remove, path, source)),
        _ => Ok(()),
    }
}

/// An exclusive lock (`flock(2)`), released when it is dropped or its process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Waits for the lock of a file, which is made where there is none.
    pub fn wait(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::new(Operation::Lock, path, source);
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        lock(&file, FlockOperation::LockExclusive).map_err(failed)?;
        Ok(Self { file })
    }

    /// Takes the lock of an open file, or nothing where somebody else has it.
    pub fn try_take(file: File) -> io::Result<Option<Self>> {
        match lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for the lock of an open file.
    pub fn take(file: File) -> io::Result<Self> {
        lock(&file, FlockOperation::LockExclusive)?;
        Ok(Self { file })
    }

    /// Whether the locked file is still the one at `path`, and not one that was replaced or removed meanwhile.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        match fs::metadata(path) {
            Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn lock(file: &File, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}
