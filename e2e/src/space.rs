//! Spaces: what the lab has in place of machines.
//!
//! A space is a network, mount, pid and UTS namespace with a root folder of its own: the host's programs, read-only,
//! but its own `/etc`, `/var`, `/opt`, `/run` and `/tmp`. Nothing is mounted, linked or named on the host: the
//! namespaces live as long as their first process, and when that one is killed the kernel ends all others in it.

use std::{
    fs, io,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::{
    process::{JOIN, PATH, ProcessError, ProcessId},
    run::{self, RunError},
};

/// Why a space cannot be made, entered or ended.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    /// A file operation failed.
    #[error("space {space}: {operation} {path}: {source}", path = path.display())]
    Io {
        /// The space.
        space: String,
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Its first process did not get through its beginning.
    #[error("space {space} could not be set up: {answer}")]
    Init {
        /// The space.
        space: String,
        /// What the process said.
        answer: String,
    },
    /// Its record does not read.
    #[error("record {path} of a space: {source}", path = path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A command in it failed.
    #[error("in space {space}: {source}")]
    Run {
        /// The space.
        space: String,
        /// The command and its answer.
        source: RunError,
    },
    /// Its processes could not be ended.
    #[error("end space {space}: {source}")]
    End {
        /// The space.
        space: String,
        /// What failed.
        source: ProcessError,
    },
}

/// A machine of the lab: a node, the control plane, the wire, or the host outside of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Its name, also its host name.
    pub name: String,
    /// Its root folder, on the host.
    pub root: PathBuf,
    /// Files through which a process joins its cgroups.
    pub cgroups: Vec<PathBuf>,
    /// The parent of its first process; killing it ends the space.
    keeper: ProcessId,
    /// Its first process.
    init: ProcessId,
}

/// What a space is made of.
pub struct Blueprint<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its root folder; one that holds nothing yet is filled.
    pub root: &'a Path,
    /// Folders of the host and where they are seen in the space, read-only.
    pub folders: &'a [(&'a Path, &'a str)],
    /// Files through which its processes join their cgroups.
    pub cgroups: Vec<PathBuf>,
    /// Where its record is written.
    pub record: &'a Path,
}

const INIT: &str = include_str!("space-init.sh");
/// What programs of the host look up in `/etc`; the rest of it is the host's own business.
const HOST_ETC: [&str; 12] = [
    "alternatives",
    "bash.bashrc",
    "group",
    "iproute2",
    "ld.so.cache",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "profile",
    "protocols",
    "services",
    "terminfo",
];

impl Space {
    /// Makes a space, or makes one that has ended anew over the same root.
    ///
    /// # Errors
    /// When its root cannot be filled or its first process fails; nothing of it runs then.
    pub fn create(blueprint: Blueprint<'_>) -> Result<Self, SpaceError> {
        let Blueprint { name, root, folders, cgroups, record } = blueprint;
        fill(root).map_err(|(path, source)| io_error(name, "create", &path, source))?;
        let mut child = Self::spawn_init(name, root, folders, &cgroups)?;
        let keeper = ProcessId::of(i32::try_from(child.id()).unwrap_or_default());
        let mut line = String::new();
        let read = child.stdout.take().map(|pipe| BufReader::new(pipe).read_line(&mut line));
        let init = line.trim().parse().ok().and_then(ProcessId::of);
        let (Some(keeper), Some(init), Some(Ok(_))) = (keeper, init, read) else {
            return Err(Self::init_failed(name, child));
        };
        let space = Self { name: name.to_owned(), root: root.to_owned(), cgroups, keeper, init };
        let text = serde_json::to_string_pretty(&space)
            .map_err(|source| SpaceError::Record { path: record.to_owned(), source })?;
        fs::write(record, text).map_err(|source| io_error(name, "write", record, source))?;
        std::thread::spawn(move || drop(child.wait()));
        Ok(space)
    }

    fn spawn_init(
        name: &str,
        root: &Path,
        folders: &[(&Path, &str)],
        cgroups: &[PathBuf],
    ) -> Result<Child, SpaceError> {
        let mut command = Command::new("sh");
        command
            .args(["-c", JOIN, "space"])
            .args(cgroups)
            .args(["--", "setsid", "unshare", "--mount", "--uts", "--net", "--pid"]);
        command.args(["--fork", "--kill-child", "--propagation", "private", "sh", "-s", "--"]).arg(root).arg(name);
        for (from, to) in folders {
            command.arg(from).arg(to);
        }
        command.env_clear().env("PATH", PATH).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| io_error(name, "start", Path::new("unshare"), source))?;
        // Read rather than an argument: the list of processes stays legible. One that ends early says why itself.
        let _told = child.stdin.take().map(|mut pipe| pipe.write_all(INIT.as_bytes()));
        Ok(child)
    }

    fn init_failed(name: &str, mut child: Child) -> SpaceError {
        drop(child.kill());
        let mut answer = String::new();
        if let Some(mut pipe) = child.stderr.take() {
            drop(pipe.read_to_string(&mut answer));
        }
        drop(child.wait());
        SpaceError::Init { space: name.to_owned(), answer: answer.trim().to_owned() }
    }

    /// Reads a space's record back.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(record: &Path) -> Result<Self, SpaceError> {
        let name = record.file_stem().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(record).map_err(|source| io_error(&name, "read", record, source))?;
        serde_json::from_str(&text).map_err(|source| SpaceError::Record { path: record.to_owned(), source })
    }

    /// Whether its first process runs.
    pub fn alive(&self) -> bool {
        self.init.alive()
    }

    /// The id of its first process, in the host's pid namespace: its namespaces are those of this process.
    pub fn pid(&self) -> i32 {
        self.init.pid
    }

    /// The file of one of its namespaces, by the kernel's name for the kind (`net`, `mnt`, `pid`, `uts`).
    pub fn namespace(&self, kind: &str) -> PathBuf {
        format!("/proc/{}/ns/{kind}", self.init.pid).into()
    }

    /// A file of the space with all that is mounted in it, as the host reaches it.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init.pid)).join(inside)
    }

    /// What `nsenter` is told to enter all but the pid namespace, which only children enter.
    pub fn enter_flags(&self) -> Vec<String> {
        let flag = |(option, kind)| format!("--{option}={}", self.namespace(kind).display());
        [("mount", "mnt"), ("uts", "uts"), ("net", "net")].into_iter().map(flag).collect()
    }

    /// A command that runs in all of its namespaces.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.enter_flags()).arg(format!("--pid={}", self.namespace("pid").display()));
        command.args(["--", program]).env("PATH", PATH).current_dir("/");
        command
    }

    /// A command that runs in all of its namespaces but the network's: it has the host's network.
    pub fn online_command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let flag = |(option, kind)| format!("--{option}={}", self.namespace(kind).display());
        command.args([("mount", "mnt"), ("uts", "uts"), ("pid", "pid")].map(flag));
        command.args(["--", program]).env("PATH", PATH).current_dir("/");
        command
    }

    /// A command of the host's that runs in its network namespace only.
    pub fn network_command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace("net").display())).args(["--", program]);
        command
    }

    /// Runs lines of `ip -batch` in its network namespace.
    ///
    /// # Errors
    /// The line that was refused.
    pub fn ip(&self, lines: &[String]) -> Result<(), SpaceError> {
        let mut command = self.network_command("ip");
        self.ran(run::run_with_input(command.args(["-batch", "-"]), &(lines.join("\n") + "\n"))).map(drop)
    }

    /// Sets sysctls of its network namespace; one that this kernel lacks is an error.
    ///
    /// # Errors
    /// The sysctl that was refused.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<(), SpaceError> {
        let line = |(key, value): &(&str, &str)| format!("echo {value} >/proc/sys/{key}\n");
        let script = settings.iter().map(line).collect::<Vec<_>>().concat();
        self.ran(run::run(self.network_command("sh").args(["-ec", &script]))).map(drop)
    }

    /// Puts the space's name on what a command in it answered.
    pub(crate) fn ran(&self, result: Result<Output, RunError>) -> Result<Output, SpaceError> {
        result.map_err(|source| SpaceError::Run { space: self.name.clone(), source })
    }

    /// Ends every process in it, and so the space. Its root stays.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn end(&self) -> Result<(), SpaceError> {
        for process in [self.keeper, self.init] {
            process.signal(Signal::KILL).map_err(|source| SpaceError::End { space: self.name.clone(), source })?;
        }
        Ok(())
    }
}

fn io_error(space: &str, operation: &'static str, path: &Path, source: io::Error) -> SpaceError {
    SpaceError::Io { space: space.to_owned(), operation, path: path.to_owned(), source }
}

/// The folders of a root that has nothing yet, and the host's files that programs look up.
fn fill(root: &Path) -> Result<(), (PathBuf, io::Error)> {
    for folder in ["etc", "var/lib", "var/log", "opt", "root"] {
        let path = root.join(folder);
        fs::create_dir_all(&path).map_err(|error| (path, error))?;
    }
    let run = root.join("var/run");
    if run.symlink_metadata().is_err() {
        symlink("/run", &run).map_err(|error| (run, error))?;
    }
    for name in HOST_ETC {
        let (from, to) = (Path::new("/etc").join(name), root.join("etc").join(name));
        if from.symlink_metadata().is_ok() && to.symlink_metadata().is_err() {
            copy(&from, &to).map_err(|error| (to, error))?;
        }
    }
    Ok(())
}

/// Copies a file, a link as a link, a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let kind = from.symlink_metadata()?.file_type();
    if kind.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if !kind.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
