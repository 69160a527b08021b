//! What is kept of policies for the next start: of the agent, and of the node.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use towpath_control::snapshot::{self, Journal, Pace};
use towpath_control::update::State;
use towpath_net::policy::bundle::{Bundle, Delta};
use tracing::warn;

use super::lasting::Lasting;
use crate::memory::make_folder;
use crate::paths::{Paths, folder};

/// How long the operator is waited for after a start of the node, before what it told earlier is used: no pod runs yet, and
/// much may have changed since.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an operator told an earlier agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The policies.
    pub bundle: Bundle,
    /// How long an operator is waited for before they are used.
    pub patience: Duration,
}

/// What the operator told last, where it is known. What was told before the node started is older than what the kernel may
/// have since, and used only where that is nothing.
pub fn remembered(paths: &Paths) -> Option<Remembered> {
    let load = |file: &Path, patience| {
        snapshot::load(file).map(|snapshot| Remembered { bundle: snapshot.state.policy, patience })
    };
    let of_this_start = load(&paths.policies(), Duration::ZERO);
    of_this_start.or_else(|| {
        let is_fresh = !paths.is_node_known() && paths.policies() != paths.lasting_policies();
        is_fresh.then(|| load(&paths.lasting_policies(), PATIENCE)).flatten()
    })
}

/// Where they are kept.
pub struct Kept {
    file: PathBuf,
    journal: Journal,
    pace: Pace,
    lasting: Lasting,
}

impl Kept {
    /// Starts what brings them to the disk.
    pub fn start(paths: &Paths) -> io::Result<Self> {
        let file = paths.policies();
        Ok(Self { journal: Journal::beside(&file), file, pace: Pace::default(), lasting: Lasting::start(paths)? })
    }

    /// They are about to be others. An agent that is killed must not go on from what the kernel had before: whoever
    /// policies let in meanwhile would be shut out, and the other way round, until an operator says so again.
    pub fn note(&mut self, change: &Delta) {
        if let Err(error) = self.journal.note(change) {
            warn!(%error, "cannot keep a change of policies for the next start");
        }
        self.change();
    }

    /// They are others now, and are kept as a whole when it is time.
    pub fn change(&mut self) {
        self.pace.change();
    }

    /// Has them kept anew, where what was kept is gone.
    pub fn look(&mut self) {
        if !self.file.exists() {
            self.change();
        }
    }

    /// Keeps them, where it is time; tells when it will be, where they are not kept.
    pub fn keep(&mut self, bundle: &mut Bundle) -> Option<Instant> {
        let now = Instant::now();
        let left = self.pace.due(now)?;
        if !left.is_zero() {
            return Some(now + left);
        }
        self.save(bundle);
        None
    }

    /// Keeps them without waiting, where they changed.
    pub fn keep_now(&mut self, bundle: &mut Bundle) {
        if self.pace.due(Instant::now()).is_some() {
            self.save(bundle);
        }
    }

    fn save(&mut self, bundle: &mut Bundle) {
        if let Err(error) = make_folder(folder(&self.file)) {
            warn!(%error, "the policies have no folder");
        }
        let state = State { peers: BTreeMap::new(), policy: std::mem::take(bundle) };
        match snapshot::save(&self.file, &[], &state).and_then(|mark| self.journal.begin(mark)) {
            Ok(()) => self.lasting.owe(),
            Err(error) => warn!(%error, "cannot keep the policies for the next start"),
        }
        self.pace.written(Instant::now());
        *bundle = state.policy;
    }
}

/// Whether it goes on from what was told earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    /// From now on.
    Now,
    /// From a moment on, unless an operator tells something by then.
    At(Instant),
    /// No more.
    Never,
}

impl Recall {
    /// When it is to be asked for again.
    pub const fn at(self) -> Option<Instant> {
        match self {
            Self::At(at) => Some(at),
            Self::Now | Self::Never => None,
        }
    }
}
