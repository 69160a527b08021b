//! Ctrl-C and its relatives: the work ends at its next step and is undone as after any failure.

use tokio::signal::unix::{SignalKind, signal};

use super::LabError;
use crate::wait::Interrupt;

/// Takes SIGINT, SIGTERM and SIGHUP from now on and sets what is returned when one comes.
///
/// # Errors
/// When no handler can be set.
pub fn catch_interrupt() -> Result<Interrupt, LabError> {
    let interrupt = Interrupt::default();
    let set = interrupt.clone();
    let failed = |source| LabError::Io { operation: "set", path: "signal handlers".into(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let guard = runtime.enter();
    let [mut interrupted, mut terminated, mut hung_up] = match kinds.map(signal) {
        [Ok(a), Ok(b), Ok(c)] => [a, b, c],
        [a, b, c] => return Err(failed(a.and(b).and(c).err().unwrap_or_else(|| std::io::ErrorKind::Other.into()))),
    };
    drop(guard);
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupted.recv() => {}
                    _ = terminated.recv() => {}
                    _ = hung_up.recv() => {}
                }
                set.set();
            }
        });
    });
    Ok(interrupt)
}
