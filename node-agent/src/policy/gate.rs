//! Tells CNI binaries how far the pods have come that they start: each asks over a connection of its own, and hears of
//! every step once.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::watch::{Receiver, Sender};
use towpath_net::policy::admission::{LONGEST, Progress, Question};
use tracing::{debug, warn};

use super::{InForce, Inbox};
use crate::memory::{MemoryError, make_folder};
use crate::paths::{Paths, folder};

/// How long a question may take: it comes with the connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many pods start at once at most; others wait in the kernel until they are taken.
const MOST: usize = 512;
/// How often it is looked whether the socket is still where CNI binaries look for it: folders are emptied by people.
const LOOK: Duration = Duration::from_secs(2);
/// How long nothing is taken after the kernel refused a connection, as it does where files are short.
const REST: Duration = Duration::from_millis(100);

/// Why nobody can ask.
#[derive(Debug, Error)]
pub enum GateError {
    /// The folder could not be made.
    #[error(transparent)]
    Folder(#[from] MemoryError),
    /// The socket could not be made.
    #[error("cannot listen at {path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What is counted, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admissions {
    /// Pods whose policies were in force, and known wherever they must be, before they started.
    pub known: u64,
    /// Pods that were waited for no longer before that.
    pub given_up: u64,
}

/// The socket, where CNI binaries ask.
pub struct Gate {
    path: PathBuf,
    listener: UnixListener,
    in_force: Receiver<Arc<InForce>>,
    count: Sender<Admissions>,
    /// Of the thread that watches leases, which are beside the socket.
    inbox: Inbox,
}

/// How a connection ended.
enum Outcome {
    Known,
    GivenUp {
        question: Question,
        reached: Option<Progress>,
    },
    /// It was no question of ours.
    Unasked,
}

impl Gate {
    /// Listens; an earlier agent's socket is replaced.
    pub fn open(
        paths: &Paths,
        in_force: Receiver<Arc<InForce>>,
        count: Sender<Admissions>,
        inbox: Inbox,
    ) -> Result<Self, GateError> {
        let path = paths.admission();
        let listener = listen(&path)?;
        Ok(Self { path, listener, in_force, count, inbox })
    }

    /// Answers, for ever.
    pub async fn serve(mut self) {
        let places = Arc::new(Semaphore::new(MOST));
        loop {
            // Nobody closes it.
            let place = Arc::clone(&places).acquire_owned().await;
            let stream = match tokio::time::timeout(LOOK, self.listener.accept()).await {
                Ok(Ok((stream, _))) => stream,
                Ok(Err(error)) => {
                    warn!(%error, "cannot take a connection of a CNI binary");
                    tokio::time::sleep(REST).await;
                    continue;
                }
                Err(_) => {
                    self.look();
                    continue;
                }
            };
            let (in_force, count) = (self.in_force.clone(), self.count.clone());
            tokio::spawn(async move {
                admit(stream, in_force, &count).await;
                drop(place);
            });
        }
    }
}

impl Gate {
    /// Listens anew where the socket is gone, and then so may be the leases beside it. One of another agent, which replaced it, is left alone.
    fn look(&mut self) {
        if self.path.exists() {
            return;
        }
        match listen(&self.path) {
            Ok(listener) => {
                warn!(path = %self.path.display(), "the socket of CNI binaries was gone: it is made anew");
                self.listener = listener;
            }
            Err(error) => warn!(%error, "CNI binaries find no socket"),
        }
        self.inbox.look();
    }
}

fn listen(path: &Path) -> Result<UnixListener, GateError> {
    make_folder(folder(path))?;
    bind(path).map_err(|source| GateError::Socket { path: path.to_owned(), source })
}

/// Only root may ask.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn admit(stream: UnixStream, in_force: Receiver<Arc<InForce>>, count: &Sender<Admissions>) {
    let begun = Instant::now();
    match answer(stream, in_force).await {
        Outcome::Known => count.send_modify(|count| count.known += 1),
        Outcome::GivenUp { question: Question { attachment, uid, .. }, reached } => {
            let seconds = begun.elapsed().as_secs();
            warn!(attachment, uid, ?reached, seconds, "a pod's policies were waited for in vain");
            count.send_modify(|count| count.given_up += 1);
        }
        Outcome::Unasked => debug!("a connection without a question"),
    }
}

async fn answer(stream: UnixStream, mut in_force: Receiver<Arc<InForce>>) -> Outcome {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let Some(question) = ask(&mut read).await else { return Outcome::Unasked };
    let mut reached: Option<Progress> = None;
    loop {
        let before = reached;
        let now = in_force.borrow_and_update().progress(&question);
        for step in Progress::ALL.into_iter().filter(|step| before < Some(*step) && Some(*step) <= now) {
            if say(&mut write, step).await.is_err() {
                return Outcome::GivenUp { question, reached };
            }
            reached = Some(step);
        }
        if reached == Some(Progress::Known) {
            return Outcome::Known;
        }
        let gone = tokio::select! {
            changed = in_force.changed() => changed.is_err(),
            // It says nothing more: it has gone.
            _ = read.read_u8() => true,
        };
        if gone {
            return Outcome::GivenUp { question, reached };
        }
    }
}

async fn ask(read: &mut BufReader<OwnedReadHalf>) -> Option<Question> {
    let mut line = String::new();
    let mut limited = read.take(LONGEST as u64);
    tokio::time::timeout(PATIENCE, limited.read_line(&mut line)).await.ok()?.ok()?;
    serde_json::from_str(&line).ok()
}

async fn say(write: &mut OwnedWriteHalf, step: Progress) -> io::Result<()> {
    write.write_all(format!("{}\n", step.line()).as_bytes()).await
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::watch::channel;

    use super::*;

    #[tokio::test]
    async fn where_the_socket_is_gone_it_is_made_anew_and_leases_are_looked_for() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("state");
        let paths = Paths {
            state: state.clone(),
            lasting: state.clone(),
            state_on_node: state.clone(),
            cni_conf: state.clone(),
            cni_bin: state.clone(),
            cni_binary: state.clone(),
            sysctls: state.clone(),
        };
        let inbox = Inbox::new().unwrap();
        let (_tell, in_force) = channel(Arc::default());
        let (count, _counted) = channel(Admissions::default());
        let mut gate = Gate::open(&paths, in_force, count, inbox.clone()).unwrap();
        gate.look();
        assert!(!inbox.take().look, "it is there");
        fs::rename(&state, root.path().join("old")).unwrap();
        gate.look();
        assert!(inbox.take().look && paths.admission().exists());
        gate.look();
        assert!(!inbox.take().look, "it is there");
    }
}
