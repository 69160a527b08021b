//! What is measured: the time that passes, and the processor time of what was started and of all that it started.

use std::{
    ops::AddAssign,
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};

/// One measurement.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// The time that passed.
    pub wall: Duration,
    /// The processor time, in the kernel and outside of it.
    pub cpu: Duration,
}

impl AddAssign for Sample {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

/// Measures processes that `work` starts and waits for. Nothing else may be started meanwhile.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Sample) {
    let before = children();
    let start = Instant::now();
    let result = work();
    let wall = start.elapsed();
    (result, Sample { wall, cpu: children().saturating_sub(before) })
}

fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let duration = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().cast_unsigned(), 0) + Duration::from_micros(time.tv_usec().cast_unsigned())
    };
    duration(usage.user_time()) + duration(usage.system_time())
}

/// All measurements of one thing.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<Sample>);

impl Series {
    /// Adds one.
    pub fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// The median of the time that passed and of the processor time, each by itself.
    pub fn median(&self) -> Sample {
        self.at(self.0.len() / 2)
    }

    /// The least of each.
    pub fn minimum(&self) -> Sample {
        self.at(0)
    }

    fn at(&self, index: usize) -> Sample {
        let nth = |value: fn(&Sample) -> Duration| {
            let mut all: Vec<Duration> = self.0.iter().map(value).collect();
            all.sort();
            all[index]
        };
        Sample { wall: nth(|sample| sample.wall), cpu: nth(|sample| sample.cpu) }
    }
}
