//! A kernel that has everything: Debian's, in an emulated machine, with the host's files.
//!
//! [`Guest::run`] boots it, runs one command line and brings back how that ended. The guest sees the host's root with a
//! layer of its own over it, which is gone with it: it runs what was built on the host and changes nothing there. No
//! hardware support is needed, no root image and no network; a boot takes some three seconds.

mod boot;
mod kernel;
mod machine;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use self::machine::Machine;
use crate::{binaries::BinariesError, progress::Progress, run::RunError};

/// Why a command could not be run in a guest.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// No machine is known for the processor.
    #[error("no guest is known for processors of architecture {0}: the table is in e2e/src/guest/machine.rs")]
    Architecture(&'static str),
    /// Programs are missing.
    #[error("a guest needs programs that are not here: {}; `make setup` installs them", .0.join(", "))]
    Programs(Vec<String>),
    /// No kernel is known to the package manager.
    #[error(
        "the machine's package lists name no {0}: run `apt-get update`, with bookworm-security or a newer Debian in the sources"
    )]
    NoKernel(String),
    /// The kernel could not be fetched or unpacked.
    #[error("get {package} (if it cannot be downloaded: run `apt-get update`): {source}")]
    Package {
        /// The package.
        package: String,
        /// What the tool said.
        source: RunError,
    },
    /// The kernel is not as expected.
    #[error("{path} {reason}", path = path.display())]
    Image {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The cache could not be used.
    #[error(transparent)]
    Cache(#[from] BinariesError),
    /// A file operation failed.
    #[error("{operation} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The emulator could not be started.
    #[error("start the guest's emulator: {0}")]
    Start(io::Error),
    /// The guest ended without telling how its command ended, twice.
    #[error("the guest did not come to the end of its command, twice; the last lines of its console:\n{0}")]
    Boot(String),
    /// The command took too long.
    #[error("the guest's command did not end within {seconds} s; the last lines of its console:\n{console}", seconds = .limit.as_secs())]
    Late {
        /// How long it had.
        limit: Duration,
        /// The end of the guest's console.
        console: String,
    },
}

impl GuestError {
    fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit status.
    pub status: i32,
    /// All that it printed.
    pub output: String,
}

/// A machine that can be booted.
#[derive(Debug)]
pub struct Guest {
    machine: &'static Machine,
    server: PathBuf,
    kernel: PathBuf,
}

/// What a guest is given.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// A command line for the shell. The host's files have their usual paths; `/run` is empty.
    pub command: &'a str,
    /// How long it may take, with the boot.
    pub limit: Duration,
    /// Whether what it prints is also printed on standard error as it comes.
    pub shown: bool,
}

/// A boot can fail by itself: emulated processors stall when the host is busy.
const BOOTS: usize = 2;

impl Guest {
    /// Finds the programs, and fetches the kernel where it is not in the cache.
    ///
    /// # Errors
    /// What is missing.
    pub fn prepare(progress: &Progress) -> Result<Self, GuestError> {
        let machine = Machine::own()?;
        Ok(Self { machine, server: machine::file_server(machine)?, kernel: kernel::find(machine, progress)? })
    }

    /// Boots, runs a command and turns off. Where the guest ended before its command did, it is booted once more.
    ///
    /// # Errors
    /// When it could not be started, did not come to the end of the command twice, or took too long.
    pub fn run(&self, task: Task<'_>) -> Result<Outcome, GuestError> {
        let mut console = String::new();
        for _ in 0..BOOTS {
            match boot::once(self, task)? {
                boot::End::Told(outcome) => return Ok(outcome),
                boot::End::Silent(lines) => console = lines,
            }
        }
        Err(GuestError::Boot(console))
    }

    fn kernel(&self) -> &Path {
        &self.kernel
    }
}
