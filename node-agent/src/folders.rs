//! Folders that are watched, also where they are removed or replaced.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use tracing::warn;

use crate::memory::make_folder;

/// What happens to what is in a folder, and that the folder itself is another one.
const MASK: WatchMask = WatchMask::CLOSE_WRITE
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVE)
    .union(WatchMask::MOVE_SELF);
/// The kernel watches something else than what is there now, or nothing.
const LOST: EventMask = EventMask::IGNORED.union(EventMask::MOVE_SELF);

/// Folders, and the kernel's events about them.
pub struct Folders {
    inotify: Inotify,
    all: Vec<PathBuf>,
    /// What the kernel watches under their names.
    watched: Vec<WatchDescriptor>,
}

impl Folders {
    /// Watches from now on. Folders that are not there are made.
    pub fn watch(all: Vec<PathBuf>) -> io::Result<Self> {
        let mut folders = Self { inotify: Inotify::init()?, all, watched: Vec::new() };
        folders.add()?;
        Ok(folders)
    }

    /// Watches what is there now: a folder may be gone, or another one. It is tried again where somebody asks again. Tells
    /// whether something may have happened of which no event tells.
    pub fn renew(&mut self) -> bool {
        self.add().unwrap_or_else(|error| {
            warn!(%error, "a folder cannot be watched: what happens there is seen late");
            true
        })
    }

    /// What is watched already is not watched twice. Tells whether any is another one than before.
    fn add(&mut self) -> io::Result<bool> {
        let mut watched = Vec::with_capacity(self.all.len());
        for folder in &self.all {
            make_folder(folder).map_err(io::Error::other)?;
            watched.push(self.inotify.watches().add(folder, MASK)?);
        }
        let are_others = self.watched != watched;
        self.watched = watched;
        Ok(are_others)
    }

    /// Takes all events that there are; tells whether there were any.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let (mut any, mut is_lost) = (false, false);
        loop {
            match self.inotify.read_events(&mut buffer) {
                Ok(events) => events.for_each(|event| {
                    any = true;
                    is_lost |= event.mask.intersects(LOST);
                }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if is_lost {
            self.renew();
        }
        Ok(any)
    }
}

impl AsFd for Folders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_is_watched_also_when_it_is_another_one() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let mut folders = Folders::watch(vec![path("a"), path("b")]).unwrap();
        assert!(!folders.drain().unwrap());
        fs::remove_dir_all(path("a")).unwrap();
        assert!(folders.drain().unwrap());
        fs::write(path("a").join("file"), "").unwrap();
        assert!(folders.drain().unwrap(), "the folder that was made in its place");
        fs::rename(path("b"), path("c")).unwrap();
        assert!(folders.drain().unwrap());
        fs::write(path("b").join("file"), "").unwrap();
        assert!(folders.drain().unwrap(), "the folder that was made in its place");
        assert!(!folders.drain().unwrap());
    }

    #[test]
    fn a_folder_that_was_replaced_from_above_is_watched_when_somebody_asks() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("state/records");
        let mut folders = Folders::watch(vec![folder.clone()]).unwrap();
        assert!(!folders.renew(), "it is the same");
        fs::rename(root.path().join("state"), root.path().join("old")).unwrap();
        assert!(!folders.drain().unwrap(), "nothing tells of it");
        assert!(folders.renew(), "it is another one");
        assert!(!folders.renew(), "it is the same");
        fs::write(folder.join("file"), "").unwrap();
        assert!(folders.drain().unwrap());
    }
}
