//! Running a process up to one of its system calls, and killing it there.
//!
//! Calls are counted from where the process waits for its standard input: before that it has been told nothing, and
//! has done nothing. A process that is killed where it enters a call does not do it (`ptrace(2)`), and between two calls a
//! process changes nothing outside itself: so to be killed at the entry of each call is to be killed anywhere.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::support::DEADLINE;

/// How a traced process ended.
#[derive(Debug)]
pub struct Run {
    /// Its exit status; nothing where it was killed.
    pub status: Option<i32>,
    /// How many system calls it had entered by then, the one that it was killed at included.
    pub calls: usize,
    /// The number and the arguments of the call that it was killed at.
    pub last: String,
    /// What it printed.
    pub stdout: String,
}

/// Runs a command with an input and kills it at the call of a number, from 0 on; it ends by itself where it makes fewer.
#[expect(clippy::zombie_processes, reason = "whoever traces it has waited for it")]
pub fn run(command: &mut Command, input: &str, at: usize) -> Run {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait_for_reader(&child);
    for thread in threads(&child) {
        ptrace::seize(thread, options()).unwrap();
        ptrace::interrupt(thread).unwrap();
    }
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let mut run = trace(id(&child), at);
    child.stdout.take().unwrap().read_to_string(&mut run.stdout).unwrap();
    run
}

/// The victim dies with its tracer, and its threads are traced from birth.
fn options() -> Options {
    Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE
}

fn id(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

fn threads(child: &Child) -> Vec<Pid> {
    let entries = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    entries.map(|entry| Pid::from_raw(entry.unwrap().file_name().to_str().unwrap().parse().unwrap())).collect()
}

/// Waits until a thread reads the standard input.
fn wait_for_reader(child: &Child) {
    let reading = format!("{} 0x0 ", libc::SYS_read);
    let end = Instant::now() + DEADLINE;
    let reads = |thread: Pid| {
        let call = fs::read_to_string(format!("/proc/{}/task/{thread}/syscall", child.id()));
        call.is_ok_and(|call| call.starts_with(&reading))
    };
    while !threads(child).into_iter().any(reads) {
        assert!(Instant::now() < end, "it never reads its input");
        std::thread::yield_now();
    }
}

/// Lets a process go on from stop to stop, until it ends or is killed.
fn trace(process: Pid, at: usize) -> Run {
    let mut run = Run { status: None, calls: 0, last: String::new(), stdout: String::new() };
    loop {
        let every = WaitPidFlag::__WALL | WaitPidFlag::from_bits_retain(libc::__WNOTHREAD);
        match waitpid(None, Some(every)).unwrap() {
            WaitStatus::Exited(pid, status) if pid == process => {
                run.status = Some(status);
                return run;
            }
            WaitStatus::Signaled(pid, ..) if pid == process => return run,
            WaitStatus::PtraceSyscall(thread) => {
                if is_entry(thread) {
                    if run.calls == at {
                        run.last = fs::read_to_string(format!("/proc/{thread}/syscall")).unwrap_or_default();
                        kill(process, Signal::SIGKILL).unwrap();
                        run.calls += 1;
                        continue;
                    }
                    run.calls += usize::from(run.last.is_empty());
                }
                go_on(thread, None);
            }
            WaitStatus::PtraceEvent(thread, ..) => go_on(thread, None),
            WaitStatus::Stopped(thread, signal) => go_on(thread, Some(signal)),
            _ => {}
        }
    }
}

/// A thread that was killed meanwhile cannot go on, and need not.
fn go_on(thread: Pid, signal: Option<Signal>) {
    _ = ptrace::syscall(thread, signal);
}

fn is_entry(thread: Pid) -> bool {
    ptrace::syscall_info(thread).is_ok_and(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY)
}
