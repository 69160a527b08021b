//! Folders that are watched, also where they are removed or replaced.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use inotify::{EventMask, Inotify, WatchMask};
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
}

impl Folders {
    /// Watches from now on. Folders that are not there are made.
    pub fn watch(all: Vec<PathBuf>) -> io::Result<Self> {
        let folders = Self { inotify: Inotify::init()?, all };
        folders.add()?;
        Ok(folders)
    }

    /// Watches what is there now: a folder may be gone, or another one. It is tried again where somebody asks again.
    pub fn renew(&self) {
        if let Err(error) = self.add() {
            warn!(%error, "a folder cannot be watched: what happens there is seen late");
        }
    }

    /// What is watched already is not watched twice.
    fn add(&self) -> io::Result<()> {
        for folder in &self.all {
            make_folder(folder).map_err(io::Error::other)?;
            self.inotify.watches().add(folder, MASK)?;
        }
        Ok(())
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
        fs::rename(root.path().join("state"), root.path().join("old")).unwrap();
        folders.renew();
        fs::write(folder.join("file"), "").unwrap();
        assert!(folders.drain().unwrap());
    }
}
