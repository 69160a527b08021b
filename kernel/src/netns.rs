//! Network namespaces.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::netlink;

/// `NSFS_MAGIC` (`linux/magic.h`).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Why a namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing at the path.
    #[error("network namespace {0}: there is nothing at this path")]
    Missing(PathBuf),
    /// What is at the path is not a namespace: its process or mount has gone.
    #[error("network namespace {0}: not a namespace, but a plain file")]
    NotANamespace(PathBuf),
    /// It cannot be read.
    #[error("open network namespace {path}: {source}")]
    Open {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be entered.
    #[error("enter network namespace {path}: {source}")]
    Enter {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A network namespace, kept alive by this handle.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    path: PathBuf,
    identity: (u64, u64),
}

impl Namespace {
    /// Opens the namespace at a path such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        let file = File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing(path.clone()),
            _ => Error::Open { path: path.clone(), source },
        })?;
        let failed = |source| Error::Open { path: path.clone(), source };
        let kind = rustix::fs::fstatfs(&file).map_err(|errno| failed(errno.into()))?.f_type;
        if u64::try_from(kind) != Ok(NSFS_MAGIC) {
            return Err(Error::NotANamespace(path));
        }
        let metadata = file.metadata().map_err(failed)?;
        Ok(Self { file, identity: (metadata.dev(), metadata.ino()), path })
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, Error> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether both are the same namespace, by whatever path.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.identity == other.identity
    }

    /// Runs a function inside, on a thread of its own: a namespace belongs to a thread, and a thread that ended
    /// cannot be left behind in the wrong one.
    pub fn run<T: Send>(&self, function: impl FnOnce() -> T + Send) -> Result<T, Error> {
        thread::scope(|scope| {
            let visitor = scope.spawn(|| self.enter().map(|()| function()));
            match visitor.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs a function inside on the calling thread, and takes that back. For processes of one thread that soon end: where
    /// the way back fails, the thread is left inside.
    pub fn visit<T>(&self, function: impl FnOnce() -> T) -> Result<T, Error> {
        let home = Self::current()?;
        self.enter()?;
        let result = function();
        home.enter().map(|()| result)
    }

    fn enter(&self) -> Result<(), Error> {
        let entered = move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network));
        entered.map_err(|errno| Error::Enter { path: self.path.clone(), source: errno.into() })
    }

    /// Opens a netlink socket inside by [`Namespace::visit`]; it stays there.
    pub fn socket(&self, protocol: netlink::Protocol) -> Result<Result<netlink::Socket, netlink::Error>, Error> {
        self.visit(|| netlink::Socket::open(protocol))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
