//! A host of one's own for a test: fresh network, mount and pid namespaces in place of the machine's, so that what
//! others do at the same time is not seen, and all that the test started ends with it, even when it is killed.

use std::{
    env, fs, io,
    path::Path,
    process::{Command, ExitStatus},
};

use crate::run::last_lines;

/// Why a test did not pass in isolation.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// It could not be started.
    #[error("run test {test} in namespaces of its own: {source}")]
    Start {
        /// The test.
        test: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// It failed.
    #[error("test {test} ended with {status}:\n{output}")]
    Failed {
        /// The test.
        test: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
}

const GUARD: &str = "TOWPATH_ISOLATED";
const LINES: usize = 80;
/// A shell waits for children that it inherits, which the first process of a pid namespace has to.
const FIRST: &str = r#"ip link set lo up; "$@"; exit $?"#;

/// A run that was cut off leaves its folders here: what ran and what was mounted in them ended with its namespaces.
fn clear(labs: &Path) -> io::Result<()> {
    match fs::remove_dir_all(labs) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs `body` in namespaces of its own, by running the test of this name once more in them. `test` is the path that
/// the test is selected by; `labs` is where its labs have their folders.
///
/// # Errors
/// When the test fails in there.
pub fn isolated(test: &str, labs: &Path, body: impl FnOnce()) -> Result<(), IsolationError> {
    if env::var_os(GUARD).is_some() {
        body();
        return Ok(());
    }
    let failed = |source| IsolationError::Start { test: test.to_owned(), source };
    let own = env::current_exe().map_err(failed)?;
    clear(labs).map_err(failed)?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]);
    unshare.args(["sh", "-c", FIRST, "first"]).arg(own).args(["--exact", test, "--nocapture", "--test-threads=1"]);
    unshare.env(GUARD, "1").env("TOWPATH_LAB_DIR", labs);
    let output = unshare.output().map_err(failed)?;
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // A name that selects nothing succeeds too.
    if output.status.success() && printed.contains("1 passed") {
        return Ok(());
    }
    Err(IsolationError::Failed { test: test.to_owned(), status: output.status, output: last_lines(&printed, LINES) })
}
