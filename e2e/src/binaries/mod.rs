//! The programs that a lab runs, built once from their published Go modules into a cache outside of the checkout.
//!
//! ```text
//! CACHE/bin/HASH/        one module's programs; HASH covers its go.mod, go.sum, sources and flags
//! CACHE/bin/HASH/        the lab's: links to the programs of all its modules
//! CACHE/go/VERSION/      a Go toolchain, where the machine has none that is new enough
//! ```

mod build;
mod go;
mod module;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

pub use self::module::{CONTAINERD, COREDNS, CRI_TOOLS, KUBERNETES, Module, OCICNI, PLUGINS, POLICY_API, SPECS};
pub(crate) use self::{build::aside, module::digest};
use crate::{progress::Progress, run::RunError};

/// Why binaries are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum BinariesError {
    /// A folder of ready-made binaries lacks some.
    #[error("folder {folder} has no {missing}: it needs {all}", folder = folder.display())]
    Incomplete {
        /// The folder.
        folder: PathBuf,
        /// What it lacks.
        missing: String,
        /// What it needs.
        all: String,
    },
    /// The lab has no such program.
    #[error(
        "the lab has no program {program}: it has {all}, e2e.test, policy.test, crictl, ocicni and the plugins of CNI"
    )]
    Unknown {
        /// What was asked for.
        program: String,
        /// What there is.
        all: String,
    },
    /// A file operation in the cache failed.
    #[error("{operation} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Nowhere to put a cache.
    #[error("no place for a cache: set TOWPATH_CACHE, XDG_CACHE_HOME or HOME")]
    NoCache,
    /// A go.mod does not say what is needed of it.
    #[error("go.mod of module {module} names no version of {what}")]
    GoMod {
        /// The module.
        module: &'static str,
        /// What has no version.
        what: &'static str,
    },
    /// A program could not be built.
    #[error("build {program}: {source}")]
    Build {
        /// The program.
        program: String,
        /// What the compiler said.
        source: RunError,
    },
    /// No toolchain could be fetched.
    #[error("fetch a Go toolchain, as the machine has no Go {needed} or newer: {source}")]
    Toolchain {
        /// The version that is needed.
        needed: String,
        /// What the installer said.
        source: RunError,
    },
}

impl BinariesError {
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}

/// A folder with all programs of a lab.
#[derive(Debug, Clone)]
pub struct Binaries {
    folder: PathBuf,
}

/// The cache: `TOWPATH_CACHE`, or `towpath` below the user's folder of caches.
///
/// # Errors
/// When the environment names no place.
pub fn cache() -> Result<PathBuf, BinariesError> {
    let named = |variable| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let fallback = || Some(named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?.join("towpath"));
    named("TOWPATH_CACHE").or_else(fallback).ok_or(BinariesError::NoCache)
}

const MODULES: [&Module; 3] = [&KUBERNETES, &CONTAINERD, &COREDNS];

impl Binaries {
    /// The folder that the caller or `TOWPATH_BINARIES` names, or the cache, which is filled first when it has to be.
    ///
    /// # Errors
    /// What is missing or could not be built.
    pub fn find(ready_made: Option<&Path>, progress: &Progress) -> Result<Self, BinariesError> {
        let named = env::var_os("TOWPATH_BINARIES").map(PathBuf::from);
        if let Some(folder) = ready_made.map(Path::to_owned).or(named) {
            return Self::ready_made(&folder);
        }
        let bin = cache()?.join("bin");
        let key = module::digest(
            MODULES.iter().map(|module| module.key()).collect::<Result<Vec<_>, _>>()?.iter().map(String::as_bytes),
        );
        let folder = bin.join(key);
        if !folder.is_dir() {
            let parts = MODULES.iter().map(|module| build::module(module, progress)).collect::<Result<Vec<_>, _>>()?;
            build::aside(&folder, |aside| link_all(&parts, aside))?;
        }
        Ok(Self { folder })
    }

    /// Upstream's specs as one program, built when they are first asked for.
    ///
    /// # Errors
    /// What could not be built.
    pub fn specs(progress: &Progress) -> Result<PathBuf, BinariesError> {
        Ok(build::module(&SPECS, progress)?.join("e2e.test"))
    }

    /// The folder of the reference plugins of CNI and of `cnitool`, built when they are first asked for.
    ///
    /// # Errors
    /// What could not be built.
    pub fn plugins(progress: &Progress) -> Result<PathBuf, BinariesError> {
        build::module(&PLUGINS, progress)
    }

    /// The folder of a module's programs, built when they are first asked for.
    ///
    /// # Errors
    /// What could not be built.
    pub fn of(module: &Module, progress: &Progress) -> Result<PathBuf, BinariesError> {
        build::module(module, progress)
    }

    /// A program by its name, built when it has to be.
    ///
    /// # Errors
    /// When the lab has no such program, or it could not be built.
    pub fn locate(program: &str, progress: &Progress) -> Result<PathBuf, BinariesError> {
        let names = |modules: &[&'static Module]| -> Vec<&'static str> {
            modules.iter().flat_map(|module| module.programs).map(|program| program.name).collect()
        };
        if names(&[&SPECS]).contains(&program) {
            return Self::specs(progress);
        }
        if names(&[&PLUGINS]).contains(&program) {
            return Ok(Self::plugins(progress)?.join(program));
        }
        if let Some(module) =
            [&CRI_TOOLS, &OCICNI, &POLICY_API].into_iter().find(|module| names(&[*module]).contains(&program))
        {
            return Ok(Self::of(module, progress)?.join(program));
        }
        let all = names(&MODULES);
        if all.contains(&program) {
            return Ok(Self::find(None, progress)?.path(program));
        }
        Err(BinariesError::Unknown { program: program.to_owned(), all: all.join(", ") })
    }

    fn ready_made(folder: &Path) -> Result<Self, BinariesError> {
        let folder = fs::canonicalize(folder).map_err(BinariesError::io("open", folder))?;
        let all: Vec<&str> = MODULES.iter().flat_map(|module| module.programs).map(|program| program.name).collect();
        let missing: Vec<&str> = all.iter().filter(|name| !folder.join(name).is_file()).copied().collect();
        if missing.is_empty() {
            return Ok(Self { folder });
        }
        Err(BinariesError::Incomplete { folder, missing: missing.join(", "), all: all.join(", ") })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A program's file.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }
}

/// Hard links: the folder is seen through a bind mount, which a symbolic link would lead out of.
fn link_all(parts: &[PathBuf], folder: &Path) -> Result<(), BinariesError> {
    for part in parts {
        for entry in fs::read_dir(part).map_err(BinariesError::io("read", part))? {
            let entry = entry.map_err(BinariesError::io("read", part))?;
            let to = folder.join(entry.file_name());
            fs::hard_link(entry.path(), &to).map_err(BinariesError::io("link", to))?;
        }
    }
    Ok(())
}
