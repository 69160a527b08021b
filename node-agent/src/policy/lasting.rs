//! Brings the policies that are kept to the disk, on a thread of its own: no change of policies waits for a disk.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use towpath_kernel::fs::{self, Error};
use tracing::warn;

use crate::paths::Paths;

/// How often the disk is written to at most.
const PERIOD: Duration = Duration::from_secs(1);
/// How much goes to the disk in the long run at most, in bytes a second: all of it is written whatever changed.
const RATE: u64 = 64 * 1024;

/// The thread. It ends with this, when the disk has what was kept last.
pub struct Lasting {
    /// Nothing where no thread is needed, or it is to end.
    owe: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Lasting {
    /// Starts the thread; none where what is kept is on disk already.
    pub fn start(paths: &Paths) -> io::Result<Self> {
        let (from, to) = (paths.policies(), paths.lasting_policies());
        if from == to {
            return Ok(Self { owe: None, thread: None });
        }
        let (owe, owed) = channel();
        // What an earlier agent had no time for.
        _ = owe.send(());
        let work = Work { from, to };
        let thread = Builder::new().name("lasting".to_owned()).spawn(move || work.run(&owed))?;
        Ok(Self { owe: Some(owe), thread: Some(thread) })
    }

    /// Something else is kept now.
    pub fn owe(&self) {
        if let Some(owe) = &self.owe {
            // It ends with this alone.
            _ = owe.send(());
        }
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.owe = None;
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

struct Work {
    from: PathBuf,
    to: PathBuf,
}

impl Work {
    fn run(&self, owed: &Receiver<()>) {
        let mut is_owed = owed.recv().is_ok();
        while is_owed {
            let next = Instant::now() + self.copy();
            is_owed = false;
            loop {
                let left = next.saturating_duration_since(Instant::now());
                match owed.recv_timeout(left) {
                    Ok(()) => is_owed = true,
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => {
                        if is_owed {
                            self.copy();
                        }
                        return;
                    }
                }
            }
            is_owed = is_owed || owed.recv().is_ok();
        }
    }

    /// Copies what is kept now; tells for how long to rest.
    fn copy(&self) -> Duration {
        self.try_copy().map_or_else(
            |error| {
                warn!(%error, "the policies will not outlive a start of the node");
                PERIOD
            },
            rest,
        )
    }

    /// How many bytes were written.
    fn try_copy(&self) -> Result<usize, Error> {
        let Some(content) = fs::read_optional(&self.from)? else { return Ok(0) };
        if fs::read_optional(&self.to)?.as_ref() == Some(&content) {
            return Ok(0);
        }
        fs::write_atomically(&self.to, &content, 0o600)?;
        Ok(content.len())
    }
}

fn rest(written: usize) -> Duration {
    PERIOD.max(Duration::from_secs(u64::try_from(written).unwrap_or(u64::MAX) / RATE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_written_to_less_often_the_more_there_is_to_write() {
        assert_eq!([0, 1000, 64 * 1024, 2 << 20].map(rest), [1, 1, 1, 32].map(Duration::from_secs));
    }
}
