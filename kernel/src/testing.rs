//! Isolation of tests: each in namespaces of its own, which are gone with its process, however it ends.

pub mod decode;
mod places;

use std::env;
use std::fs;
use std::io;
use std::process::{Command, ExitStatus, Output};

use rustix::mount::{MountFlags, mount};

use crate::link;
use crate::netlink::{Protocol, Socket};
pub use places::{attach, inside, run};

/// Tells the inner process which test it is to run, or that it is inside.
const GUARD: &str = "TOWPATH_ISOLATED_TEST";

/// Runs the body of the test `name` in new network, mount and process namespaces, as root there.
///
/// `name` is the test's full name, as the test binary lists it. The test binary is started again for exactly this
/// test; there, `/run` is empty and writable, `/proc` is the new namespaces', and the loopback is up.
///
/// # Panics
///
/// Where the namespaces cannot be made, where there is no test of that name, and where the body panics.
#[expect(clippy::panic, reason = "this is how a test fails")]
pub fn isolated(name: &str, body: impl FnOnce()) {
    if env::var(GUARD).as_deref() == Ok(name) {
        if let Err(error) = prepare() {
            panic!("preparing the namespaces of {name}: {error}");
        }
        return body();
    }
    let output = match again(name) {
        Ok(output) => output,
        Err(error) => panic!("starting {name} again with unshare(1): {error}"),
    };
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{name} in its own namespaces: {}\n{stdout}\n{stderr}",
        output.status
    );
}

/// Runs this program again, with its own words, in such namespaces, and tells how that ended. Nothing where this is what runs
/// in there.
///
/// # Errors
///
/// Where the namespaces cannot be made.
pub fn alone() -> Result<Option<ExitStatus>, Box<dyn std::error::Error>> {
    if env::var_os(GUARD).is_some() {
        return prepare().map(|()| None);
    }
    let mut command = in_namespaces()?;
    Ok(Some(command.args(env::args_os().skip(1)).env(GUARD, "all").status()?))
}

fn again(name: &str) -> io::Result<Output> {
    let mut command = in_namespaces()?;
    command.args([name, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"]);
    command.env(GUARD, name).output()
}

/// What starts this program in new namespaces.
fn in_namespaces() -> io::Result<Command> {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--").arg(env::current_exe()?);
    Ok(command)
}

fn prepare() -> Result<(), Box<dyn std::error::Error>> {
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=0755"))?;
    fs::create_dir("/run/netns")?;
    let mut socket = Socket::open(Protocol::Route)?;
    if let Some(loopback) = link::find(&mut socket, "lo")? {
        link::change(&mut socket, loopback.index, link::Change { up: Some(true), ..link::Change::default() })?;
    }
    Ok(())
}
