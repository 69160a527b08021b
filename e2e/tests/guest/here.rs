//! What needs no other kernel: nodes as in the guest, in namespaces of their own on this one.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use towpath_e2e::progress::Progress;

use crate::build;

/// What the namespaces need before anything runs in them.
const PREPARE: &str = "mount -t tmpfs -o mode=0755 tmpfs /run && mkdir /run/netns && ip link set lo up";

/// Runs the test `name`, which is ignored otherwise, in new network, mount and process namespaces that end with it.
///
/// # Panics
///
/// Where it fails.
pub fn run(name: &str) {
    let [agent, cni] = Progress::shown().long_step("build what runs on nodes", build::node_programs).unwrap();
    let own = env::current_exe().unwrap();
    let line = format!("{PREPARE} && exec {} {name} --exact --ignored --nocapture --test-threads=1", own.display());
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["sh", "-c", &line]).env("TOWPATH_AGENT", agent).env("TOWPATH_CNI", cni);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let passed = lines.fold(false, |passed, line| {
        println!("{line}");
        passed || line.contains("1 passed")
    });
    let status = child.wait().unwrap();
    assert!(status.success() && passed, "{name}: {status}");
}
