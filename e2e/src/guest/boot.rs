//! One boot of the guest.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Guest, GuestError, Outcome, Task};
use crate::process::tail;

/// How a boot ended.
pub(super) enum End {
    /// With a command that ended.
    Told(Outcome),
    /// Before that; the end of the console.
    Silent(String),
}

const INIT: &str = include_str!("init.sh");
const HOST: &str = include_str!("host.sh");
/// Of the guest, in MiB; what it does not use is not taken from the host.
const MEMORY: u32 = 2048;
const PERIOD: Duration = Duration::from_millis(50);
const LINES: usize = 30;

/// Boots, waits for the end and reads what was left in the share.
pub(super) fn once(guest: &Guest, task: Task<'_>) -> Result<End, GuestError> {
    let folder = tempfile::tempdir().map_err(GuestError::io("create", std::env::temp_dir()))?;
    let folder = folder.path();
    let share = folder.join("share");
    fs::create_dir(&share).map_err(GuestError::io("create", &share))?;
    for (path, text) in [(share.join("command"), task.command), (folder.join("init"), &format!("#!/bin/sh\n{INIT}"))] {
        fs::write(&path, text).map_err(GuestError::io("write", &path))?;
        make_executable(&path)?;
    }
    let console = folder.join("console");
    let mut machine = Running(command(guest, folder).spawn().map_err(GuestError::Start)?);
    if !machine.follow(&share.join("output"), task)? {
        return Err(GuestError::Late { limit: task.limit, console: tail(&console, LINES) });
    }
    let read = |name: &str| fs::read(share.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let status = read("status").ok().and_then(|text| text.trim().parse().ok());
    Ok(match status {
        Some(status) => End::Told(Outcome { status, output: read("output").unwrap_or_default() }),
        None => End::Silent(format!("{}\n{}", tail(&console, LINES), read("output").unwrap_or_default())),
    })
}

fn make_executable(path: &Path) -> Result<(), GuestError> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(GuestError::io("make executable", path))
}

/// The emulator with its file servers, in namespaces that end with this process.
fn command(guest: &Guest, folder: &Path) -> Command {
    let machine = guest.machine;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]);
    command.args(["sh", "-c", HOST, "host"]).arg(folder).arg(&guest.server);
    command.args([machine.emulator, "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", &MEMORY.to_string()]);
    command.args(["-machine", &format!("{},memory-backend=memory", machine.model)]);
    // Shared with the file servers.
    command.args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY}M,share=on")]);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    command.args(["-serial", &format!("file:{}", folder.join("console").display())]);
    for share in ["root", "share"] {
        let socket = folder.join(share).with_extension("sock");
        command.args(["-chardev", &format!("socket,id={share},path={}", socket.display())]);
        command.args(["-device", &format!("vhost-user-fs-pci,chardev={share},tag={share}")]);
    }
    command.arg("-kernel").arg(guest.kernel().join("kernel"));
    let line = format!(
        "root=root rootfstype=virtiofs ro console={} quiet panic=-1 init={} modules={}",
        machine.console,
        folder.join("init").display(),
        guest.kernel().display(),
    );
    command.args(["-append", &line]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A machine that is turned off when this is dropped.
struct Running(Child);

impl Running {
    /// Waits for the end, and shows what comes where that is wanted; tells whether the end came in time.
    fn follow(&mut self, output: &Path, task: Task<'_>) -> Result<bool, GuestError> {
        let deadline = Instant::now() + task.limit;
        let mut shown = 0;
        loop {
            let ended = self.0.try_wait().map_err(GuestError::Start)?.is_some();
            if task.shown {
                shown += show(output, shown);
            }
            if ended || Instant::now() > deadline {
                return Ok(ended);
            }
            thread::sleep(PERIOD);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, as a rule.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Prints what a file has beyond a position; returns how much that was.
fn show(file: &Path, from: u64) -> u64 {
    let mut text = Vec::new();
    let read = fs::File::open(file).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut text)
    });
    // There is none before the guest is up.
    if read.is_ok() {
        _ = std::io::stderr().write_all(&text);
    }
    u64::try_from(text.len()).unwrap_or_default()
}
