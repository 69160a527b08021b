//! Moving configurations of other networks aside, and putting them back.
//!
//! A file that is aside is known by its name alone, so that it is found again whatever was lost meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tracing::{info, warn};

use super::{Rival, may_move};
use crate::memory::{self, MemoryError};
use crate::paths::Paths;

/// What a file's name ends in while it is aside: no runtime reads such files.
const ASIDE: &str = ".disabled-by-towpath";
/// How often a file is moved that somebody puts back: whoever insists is told of, and not fought.
const MOVES: u32 = 3;

/// A file that could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The move failed.
    #[error("move {from} to {to}: {source}")]
    Move {
        /// Where it is.
        from: PathBuf,
        /// Where it should be.
        to: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The folder could not be read.
    #[error("read {folder}: {source}")]
    Read {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It could not be kept in mind that the file was moved.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// The files of a folder that are aside, and how often each was moved since the node started.
#[derive(Debug)]
pub struct Asides {
    moves: BTreeMap<String, u32>,
}

impl Asides {
    /// As an earlier agent left it. What is damaged counts anew.
    pub fn load(paths: &Paths) -> Self {
        let moves = memory::moves(paths).unwrap_or_else(|error| {
            warn!(%error, "cannot read which files were moved aside");
            BTreeMap::new()
        });
        Self { moves }
    }

    /// How often somebody put a file back.
    pub fn put_back(&self, rival: &Rival) -> u32 {
        self.moves.get(&rival.file).copied().unwrap_or_default()
    }

    /// Moves a file aside, in its folder, unless it is a wrapper's or was put back too often; tells whether it was
    /// moved. What was put aside under its name before is older, and makes room.
    pub fn put_aside(&mut self, paths: &Paths, rival: &Rival) -> Result<bool, Error> {
        let moved = self.put_back(rival);
        if !may_move(rival) || moved >= MOVES {
            return Ok(false);
        }
        // Kept before it is done: whoever is killed in between has counted one too many, and never one too few.
        self.moves.insert(rival.file.clone(), moved + 1);
        memory::keep_moves(paths, &self.moves)?;
        let from = paths.cni_conf.join(&rival.file);
        let to = paths.cni_conf.join(format!("{}{ASIDE}", rival.file));
        if let Err(source) = fs::rename(&from, &to) {
            self.moves.insert(rival.file.clone(), moved);
            memory::keep_moves(paths, &self.moves)?;
            return Err(Error::Move { from, to, source });
        }
        info!(file = rival.file, "moved another network's CNI configuration aside");
        Ok(true)
    }
}

/// The names that files had which are aside.
pub fn aside(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(ASIDE).filter(|name| !name.is_empty()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Puts every file back, but for those whose place was taken: these stay where they are. All are tried; the first
/// failure is told.
pub fn restore(paths: &Paths) -> Result<(), Error> {
    let mut result = Ok(());
    let names = aside(&paths.cni_conf).map_err(|source| Error::Read { folder: paths.cni_conf.clone(), source })?;
    for name in names {
        let from = paths.cni_conf.join(format!("{name}{ASIDE}"));
        let to = paths.cni_conf.join(&name);
        match renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            Ok(()) => info!(file = name, "put another network's CNI configuration back"),
            Err(Errno::EXIST) => warn!(file = name, "a newer file has the name: the one that is aside stays aside"),
            Err(source) => result = result.and(Err(Error::Move { from, to, source: source.into() })),
        }
    }
    result
}
