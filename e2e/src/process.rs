//! Processes that outlive the command that started them, and the records by which they are found again.
//!
//! A record is written as soon as the process exists and holds all that a second start needs. A process is
//! known by its id and its start time (proc(5), field 22 of `/proc/PID/stat`), so a record never means another
//! process that was given the same id later.

use std::{
    fs, io,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde::{Deserialize, Serialize};

use crate::{run, space::Space};

/// Why a process could not be started or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
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
    /// The process could not be started.
    #[error("start {command}: {source}")]
    Start {
        /// The program.
        command: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel refused a signal.
    #[error("send a signal to process {pid}: {source}")]
    Signal {
        /// The process.
        pid: i32,
        /// What the kernel answered.
        source: rustix::io::Errno,
    },
}

/// A process, told apart from later ones of the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its id in the host's pid namespace.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

/// Reads a text file of the kernel's; `None` when it is not there.
pub fn read_text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// What `/proc/PID/stat` says from its third field on; the second one may hold spaces.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = read_text(Path::new(&format!("/proc/{pid}/stat")))?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

impl ProcessId {
    /// The running process of this id.
    pub fn of(pid: i32) -> Option<Self> {
        let fields = stat(pid)?;
        // A zombie has ended; only its parent has not asked yet.
        if matches!(fields.first()?.as_str(), "Z" | "X") {
            return None;
        }
        Some(Self { pid, started: fields.get(19)?.parse().ok()? })
    }

    /// Whether it still runs.
    pub fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal; a process that has ended already is not an error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(self, signal: Signal) -> Result<(), ProcessError> {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.alive()) else { return Ok(()) };
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(source) => Err(ProcessError::Signal { pid: self.pid, source }),
        }
    }

    /// Its share of resident memory, in bytes: pages that several processes have are split between them
    /// (proc(5), `/proc/PID/smaps_rollup`).
    pub fn memory(self) -> u64 {
        let rollup = read_text(Path::new(&format!("/proc/{}/smaps_rollup", self.pid))).unwrap_or_default();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kibibytes: Option<u64> = line.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
        kibibytes.unwrap_or(0) * 1024
    }
}

/// Where a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In all namespaces of its space.
    Space,
    /// In the host's namespaces; it only counts among the space's processes.
    Host,
}

/// All that is needed to start a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Where it runs.
    pub place: Place,
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// Environment beside `PATH` and `HOME`.
    pub environment: Vec<(String, String)>,
    /// Where what it prints is appended.
    pub log: PathBuf,
}

/// Joins the cgroups named by the arguments before `--`, then becomes the program after it.
pub(crate) const JOIN: &str = r#"while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done; shift; exec "$@""#;
/// As [`JOIN`], but first tells its id as the host knows it, and has its standard output go where its errors go.
const ANNOUNCE: &str = r#"while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done; shift
read -r pid _ </proc/self/stat; echo "$pid"; exec "$@" >&2"#;

/// Where programs are looked for, the lab's own binaries first.
pub const PATH: &str = "/opt/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Launch {
    /// Starts the process, detached from this one, in a session and in cgroups of its own. Its parent is the first
    /// process of its space, which leaves no zombie.
    ///
    /// # Errors
    /// When its log cannot be opened or the process cannot be created.
    pub fn start(&self, space: &Space) -> Result<ProcessId, ProcessError> {
        let mut command = self.command(space)?;
        let start = |source| ProcessError::Start { command: self.arguments.join(" "), source };
        let child = match self.place {
            Place::Host => command.spawn(),
            Place::Space => spawn_in_pid_namespace(space, &mut command),
        };
        let mut child = child.map_err(start)?;
        let mut line = String::new();
        if let Some(pipe) = child.stdout.take() {
            BufReader::new(pipe).read_line(&mut line).map_err(start)?;
        }
        child.wait().map_err(start)?;
        let pid: i32 = line.trim().parse().map_err(|_| start(io::ErrorKind::BrokenPipe.into()))?;
        // One that has ended already is recorded all the same: that it died is then found as for any other.
        Ok(ProcessId::of(pid).unwrap_or(ProcessId { pid, started: 0 }))
    }

    fn command(&self, space: &Space) -> Result<Command, ProcessError> {
        let open = |source| ProcessError::Io { operation: "open", path: self.log.clone(), source };
        let log = fs::File::options().create(true).append(true).open(&self.log).map_err(open)?;
        let mut command = Command::new("setsid");
        command.args(["--fork", "sh", "-c", ANNOUNCE, "launch"]).args(&space.cgroups).arg("--");
        if self.place == Place::Space {
            command.arg("nsenter").args(space.enter_flags());
        }
        command.args(&self.arguments).env_clear().env("PATH", PATH).env("HOME", "/root");
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).current_dir("/");
        Ok(command)
    }
}

/// Children of a thread are born in the pid namespace that the thread has set, so a thread sets it and ends.
/// `nsenter --pid` would fork instead, and the id known here would be that of a bystander.
fn spawn_in_pid_namespace(space: &Space, command: &mut Command) -> io::Result<std::process::Child> {
    let namespace = fs::File::open(space.namespace("pid"))?;
    let spawn = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
        command.spawn()
    };
    std::thread::scope(|scope| scope.spawn(spawn).join()).unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

/// The end of a log, for an error message.
pub fn tail(log: &Path, lines: usize) -> String {
    const BYTES: u64 = 16 * 1024;
    let read = || -> io::Result<String> {
        let mut file = fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_or_else(|_| "(no log)".to_owned(), |text| run::last_lines(&text, lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_of_the_same_id() {
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.alive());
        assert!(own.memory() > 0);
        assert!(!ProcessId { started: own.started + 1, ..own }.alive());
    }

    #[test]
    fn a_signal_to_a_process_that_has_ended_is_no_error() {
        let mut child = Command::new("true").spawn().unwrap();
        let id = ProcessId { pid: i32::try_from(child.id()).unwrap(), started: 0 };
        child.wait().unwrap();
        id.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn the_tail_of_a_log_that_is_missing_says_so() {
        assert_eq!(tail(Path::new("/nonexistent"), 3), "(no log)");
    }
}
