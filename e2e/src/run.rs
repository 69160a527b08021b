//! Running a program to its end, with an error that says what ran and what it answered.

use std::{
    io::Write as _,
    process::{Command, ExitStatus, Output, Stdio},
};

/// Why a program's run did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("start `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// What the kernel answered.
        source: std::io::Error,
    },
    /// It ended with a status other than zero.
    #[error("`{command}` ended with {status}:\n{answer}")]
    Status {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        answer: String,
    },
}

const ANSWER_LINES: usize = 25;

/// Runs `command` to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub fn run(command: &mut Command) -> Result<Output, RunError> {
    let output = output(command)?;
    succeeded(command, output)
}

/// As [`run`], with text for its standard input.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub fn run_with_input(command: &mut Command, input: &str) -> Result<Output, RunError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(source) => return Err(RunError::Start { command: line(command), source }),
    };
    // A program that ends without reading its input closes the pipe; its status tells why.
    let mut stdin = child.stdin.take();
    let text = input.to_owned();
    let feeder = std::thread::spawn(move || stdin.as_mut().map(|pipe| pipe.write_all(text.as_bytes())));
    let output = child.wait_with_output().map_err(|source| RunError::Start { command: line(command), source })?;
    drop(feeder.join());
    succeeded(command, output)
}

/// Runs `command` to its end, whatever its status.
///
/// # Errors
/// When it cannot be started.
pub fn output(command: &mut Command) -> Result<Output, RunError> {
    command.stdin(Stdio::null());
    match command.output() {
        Ok(output) => Ok(output),
        Err(source) => Err(RunError::Start { command: line(command), source }),
    }
}

fn succeeded(command: &Command, output: Output) -> Result<Output, RunError> {
    if output.status.success() {
        return Ok(output);
    }
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let answer = last_lines(&String::from_utf8_lossy(&text), ANSWER_LINES);
    Err(RunError::Status { command: line(command), status: output.status, answer })
}

/// The command line as a person would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The last `count` lines of a text.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_command_and_what_it_said() {
        let error = run(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c") && text.contains("exit status: 3") && text.contains("no such thing"), "{text}");
    }

    #[test]
    fn input_larger_than_a_pipe_reaches_the_program() {
        let input = "x".repeat(1 << 20);
        let output = run_with_input(&mut Command::new("cat"), &input).unwrap();
        assert_eq!(output.stdout.len(), input.len());
    }
}
