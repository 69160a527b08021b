//! Commands in pods, for tests.

use super::{Lab, LabError};
use crate::run;

/// What a command in a pod answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodOutput {
    /// Whether it ended with status zero.
    pub success: bool,
    /// What it printed on its standard output.
    pub stdout: String,
    /// What it printed on its standard error.
    pub stderr: String,
}

impl Lab {
    /// Runs a command in a pod's first container and returns its output, whatever its status.
    ///
    /// # Errors
    /// When `kubectl` cannot be started.
    pub fn pod_exec(&self, namespace: &str, pod: &str, arguments: &[&str]) -> Result<PodOutput, LabError> {
        let mut command = self.kubectl_command();
        command.args(["exec", "--namespace", namespace, pod, "--"]).args(arguments);
        let output = run::output(&mut command)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(PodOutput { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }
}
