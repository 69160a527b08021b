//! CPU time and memory of this process, as the kernel counts them.

use std::fs;

/// Adds up the CPU time of what it runs.
#[derive(Debug, Default)]
pub struct Meter {
    nanoseconds: u64,
}

impl Meter {
    pub fn run<T>(&mut self, what: impl FnOnce() -> T) -> T {
        let before = cpu_nanoseconds();
        let result = what();
        self.nanoseconds += cpu_nanoseconds() - before;
        result
    }

    #[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    pub fn seconds(&self) -> f64 {
        self.nanoseconds as f64 / 1e9
    }
}

/// Of this thread, which is the only one (`/proc/self/schedstat`: the first number).
fn cpu_nanoseconds() -> u64 {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// A line of `/proc/self/status`, in MiB.
pub fn megabytes(field: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
