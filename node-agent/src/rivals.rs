//! CNI configurations of other networks in the folder that the container runtime takes one from.
//!
//! A runtime takes the first usable file in byte order (containerd: and none at all where the first cannot be used), so
//! a file before ours takes the node's pods, and one behind ours would if ours were away. Some files are meant to be
//! first: those of plugins that call the next one.

mod aside;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

pub use aside::{Asides, Error, aside, restore};

/// The ends of names that runtimes read (`libcni`, `ConfFiles`).
const READ: [&str; 3] = ["conf", "conflist", "json"];
/// How plugins begin that call the network behind theirs, and what their files are called.
const WRAPPER: &str = "multus";
const WRAPPERS_FILE: &str = "00-multus";
/// The most of a file that is read, in bytes: more is no configuration.
const LONGEST: u64 = 1 << 20;
/// How old a file must be before it is said to be damaged: somebody may be writing it.
const WRITTEN: Duration = Duration::from_millis(400);

/// What a runtime makes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A network.
    Network {
        /// Its name.
        name: String,
        /// The types of its plugins, in order.
        plugins: Vec<String>,
    },
    /// Nothing.
    Unusable {
        /// Why.
        reason: String,
    },
}

/// What stands between a file and the node's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: pods join its network instead of ours.
    First,
    /// Nothing, but it cannot be used: under containerd no pod starts.
    Fatal,
    /// It has our network's name: programs that choose by name may take it.
    SameName,
    /// Our file: its turn comes when ours is away.
    Behind,
}

/// A configuration that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// The file's name.
    pub file: String,
    /// What is in it.
    pub content: Content,
    /// What stands between it and the node's pods.
    pub standing: Standing,
    /// How often it was moved aside and put back by somebody.
    pub put_back: u32,
}

impl Rival {
    /// Whether it does harm as things are.
    pub fn contests(&self) -> bool {
        self.standing != Standing::Behind
    }
}

/// A file of the folder, as a runtime reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub file: String,
    /// What is in it.
    pub content: Content,
}

/// The other networks of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rivals {
    /// In the order in which a runtime reads them.
    pub list: Vec<Rival>,
    /// Files that were moved aside, by the names that they had.
    pub aside: Vec<String>,
    /// Why one could not be moved aside, in words.
    pub failure: Option<String>,
}

impl Rivals {
    /// Those that do harm as things are.
    pub fn contesting(&self) -> impl Iterator<Item = &Rival> {
        self.list.iter().filter(|rival| rival.contests())
    }
}

/// The files of a folder.
#[derive(Debug, Default)]
pub struct Folder {
    /// In the order in which a runtime reads them.
    pub candidates: Vec<Candidate>,
    /// Whether some file is being written, and has to be read again.
    pub unfinished: bool,
}

/// Reads the folder as a runtime does.
pub fn read(folder: &Path) -> io::Result<Folder> {
    let mut found = Folder::default();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_read = path.extension().is_some_and(|end| READ.iter().any(|read| end == *read));
        if !is_read {
            continue;
        }
        // What is behind a link counts, and a pipe would never end.
        let content = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                let content = content(&path);
                if matches!(content, Content::Unusable { .. }) && is_fresh(metadata.modified()) {
                    found.unfinished = true;
                    continue;
                }
                content
            }
            // Somebody removed it meanwhile, or it is a link that leads nowhere.
            Err(error) if path.is_symlink() => Content::Unusable { reason: error.to_string() },
            Ok(_) | Err(_) => continue,
        };
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.candidates.push(Candidate { file, content });
    }
    found.candidates.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(found)
}

fn is_fresh(modified: io::Result<SystemTime>) -> bool {
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < WRITTEN))
}

fn content(path: &Path) -> Content {
    let mut text = Vec::new();
    match File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut text)) {
        Ok(_) => parse(&text, path.extension().is_some_and(|end| end == "conflist")),
        Err(error) => Content::Unusable { reason: error.to_string() },
    }
}

/// What a runtime makes of a file's text; a list of plugins where the name ends in `conflist`, else a single one.
pub fn parse(text: &[u8], is_list: bool) -> Content {
    let unusable = |reason: String| Content::Unusable { reason };
    let config: Value = match serde_json::from_slice(text) {
        Ok(config) => config,
        Err(error) => return unusable(format!("no JSON: {error}")),
    };
    let type_of = |plugin: &Value| {
        let name = plugin.get("type").and_then(Value::as_str);
        name.filter(|name| !name.is_empty()).map(str::to_owned)
    };
    let plugins: Option<Vec<String>> = if is_list {
        config.get("plugins").and_then(Value::as_array).and_then(|list| list.iter().map(type_of).collect())
    } else {
        type_of(&config).map(|plugin| vec![plugin])
    };
    match plugins {
        Some(plugins) if !plugins.is_empty() => {
            let name = config.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            Content::Network { name, plugins }
        }
        _ => unusable("it names no plugin's type".to_owned()),
    }
}

/// Which files are other networks', and what stands between them and the node's pods. `ours` is our file, and
/// `network` our network's name.
pub fn judge(candidates: &[Candidate], ours: &str, network: &str) -> Vec<Rival> {
    let installed = candidates.iter().any(|candidate| candidate.file == ours);
    let others = candidates.iter().filter(|candidate| candidate.file != ours && !is_wrapper(candidate));
    let rival = |candidate: &Candidate| {
        let first = !installed || candidate.file.as_str() < ours;
        let standing = match (&candidate.content, first) {
            (Content::Network { .. }, true) => Standing::First,
            (Content::Network { name, .. }, false) if name == network => Standing::SameName,
            (Content::Network { .. }, false) => Standing::Behind,
            (Content::Unusable { .. }, true) => Standing::Fatal,
            (Content::Unusable { .. }, false) => return None,
        };
        Some(Rival { file: candidate.file.clone(), content: candidate.content.clone(), standing, put_back: 0 })
    };
    others.filter_map(rival).collect()
}

/// Whether a file is meant to be before ours: its plugin calls the next one.
fn is_wrapper(candidate: &Candidate) -> bool {
    match &candidate.content {
        Content::Network { plugins, .. } => plugins.iter().any(|plugin| plugin.starts_with(WRAPPER)),
        Content::Unusable { .. } => false,
    }
}

/// Whether a file may be moved aside: that of a wrapper never is, not even a damaged one.
fn may_move(rival: &Rival) -> bool {
    !rival.file.starts_with(WRAPPERS_FILE)
}

#[cfg(test)]
mod tests;
