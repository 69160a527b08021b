//! The files by which a container runtime finds Towpath: the CNI binaries, and the configuration file.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ipnet::IpNet;
use thiserror::Error;
use towpath_kernel::fs;
use towpath_net::node_file::NodeFile;
use towpath_net::state::{NodeSpec, NodeState};

use crate::memory::{MemoryError, make_folder};
use crate::paths::Paths;

/// The names that the one binary is installed under; it tells by its name which plugin it is.
const BINARIES: [&str; 2] = ["towpath", "loopback"];
/// The name of the CNI network: never changed, for runtimes keep what belongs to a network under its name.
pub const NETWORK: &str = "towpath";

/// A file that could not be read, written or removed.
#[derive(Debug, Error)]
pub enum CniFilesError {
    /// One of the files for the runtime.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// A folder for them.
    #[error(transparent)]
    Folder(#[from] MemoryError),
    /// The binary that is to be installed is not there.
    #[error("there is no CNI binary at {0} to install: name it with --cni-binary")]
    NoBinary(String),
    /// What should be written cannot be said in JSON.
    #[error("cannot say {what} in JSON: {source}")]
    Json {
        /// What should be written.
        what: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
}

/// The CNI binaries, as they were when they were last found right.
#[derive(Debug, Default)]
pub struct Binaries {
    seen: Vec<Stamp>,
}

/// A file's number, length and last change: what differs where somebody else wrote it.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(Option<(u64, u64, i64, i64)>);

impl Stamp {
    fn of(path: &Path) -> Self {
        Self(std::fs::metadata(path).ok().map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec())))
    }
}

impl Binaries {
    /// Installs the CNI binaries, each in one step, where the runtime has no such binary of the same content. Tells
    /// which of those that it had found right before it had to install again.
    ///
    /// A `loopback` that somebody else installed does as well, and stays.
    pub fn install(&mut self, paths: &Paths) -> Result<Vec<&'static str>, CniFilesError> {
        let stamps = || BINARIES.map(|name| Stamp::of(&paths.binary(name)));
        if self.seen == stamps() {
            return Ok(Vec::new());
        }
        let mut again = Vec::new();
        let binary = our_binary(paths)?;
        make_folder(&paths.cni_bin)?;
        for name in BINARIES {
            let path = paths.binary(name);
            let there = fs::read_optional(&path)?;
            let foreign = name != NETWORK && there.as_ref().is_some_and(|content| !is_ours(content));
            if !foreign && there.as_ref() != Some(&binary) {
                fs::write_atomically(&path, &binary, 0o755)?;
                again.push(name);
            }
        }
        if self.seen.is_empty() {
            again.clear();
        }
        self.seen = stamps().into();
        Ok(again)
    }
}

fn our_binary(paths: &Paths) -> Result<Vec<u8>, CniFilesError> {
    let missing = || CniFilesError::NoBinary(paths.cni_binary.display().to_string());
    fs::read_optional(&paths.cni_binary)?.ok_or_else(missing)
}

/// Whether a binary is one of Towpath's, of whatever release: each names the network.
fn is_ours(binary: &[u8]) -> bool {
    let mark = b"towpath.dev";
    binary.windows(mark.len()).any(|window| window == mark)
}

/// Writes what the CNI binary reads, where it says something else; tells whether it was written. Pod CIDRs in `open`
/// are not offered anew. `is_enforced` is whether there are policies; nothing where nobody told, and then the file goes on to
/// say what it says, and where it is not there it is not made: no pod starts before that is known.
pub fn write_node_file(
    paths: &Paths,
    state: &NodeState,
    mtu: u32,
    open: &[IpNet],
    is_enforced: Option<bool>,
) -> Result<bool, CniFilesError> {
    let is_enforced = match is_enforced {
        Some(is_enforced) => is_enforced,
        None => match node_file_there(paths)? {
            Some(there) => there.startup.is_some(),
            None => return Ok(false),
        },
    };
    let mut node_file = NodeFile::render(state, mtu, is_enforced);
    if !open.is_empty() {
        let offered = node_file_there(paths)?.map(|there| there.pod_cidrs).unwrap_or_default();
        node_file.pod_cidrs.retain(|cidr| offered.contains(cidr) || !open.contains(cidr));
    }
    make_folder(&paths.leases())?;
    put_node_file(paths, &node_file)
}

/// Takes out of what the CNI binary reads every pod CIDR that the node has no more: from then on no pod gets an address
/// of it. What else is new there waits for [`write_node_file`].
pub fn retract(paths: &Paths, spec: &NodeSpec) -> Result<(), CniFilesError> {
    let Some(mut node_file) = node_file_there(paths)? else { return Ok(()) };
    let offered = node_file.pod_cidrs.len();
    node_file.pod_cidrs.retain(|cidr| spec.pod_cidrs.contains(cidr));
    if node_file.pod_cidrs.len() < offered {
        put_node_file(paths, &node_file)?;
    }
    Ok(())
}

/// What the CNI binary reads; nothing where it is not there, or nothing of ours: then it is written anew.
fn node_file_there(paths: &Paths) -> Result<Option<NodeFile>, CniFilesError> {
    Ok(fs::read_optional(&paths.node_file())?.and_then(|content| serde_json::from_slice(&content).ok()))
}

fn put_node_file(paths: &Paths, node_file: &NodeFile) -> Result<bool, CniFilesError> {
    let json = |source| CniFilesError::Json { what: "the node file", source };
    let content = serde_json::to_vec_pretty(node_file).map_err(json)?;
    ensure(&paths.node_file(), &content, 0o644)
}

/// Writes the configuration file, where it says something else; tells whether it was written.
///
/// It is the last thing of all: with it the node takes pods. It is put in place by a rename within its folder, which
/// every runtime notices.
pub fn write_conflist(paths: &Paths) -> Result<bool, CniFilesError> {
    let json = |source| CniFilesError::Json { what: "the CNI configuration", source };
    let content = serde_json::to_vec_pretty(&conflist(&paths.state_on_node)).map_err(json)?;
    make_folder(&paths.cni_conf)?;
    ensure(&paths.conflist(), &content, 0o644)
}

/// What a runtime may say in `runtimeConfig`: it sends what is named here and nothing else (CNI conventions, "Dynamic
/// plugin specific fields"). podman replaces them all by `ips` where that is missing and a container asks for an address.
const CAPABILITIES: [&str; 5] = ["bandwidth", "io.kubernetes.cri.pod-annotations", "ips", "mac", "portMappings"];

/// Runtimes that know no `cniVersions` take `cniVersion`, so that one is low; the others take the highest they know.
fn conflist(state: &Path) -> serde_json::Value {
    serde_json::json!({
        "cniVersion": "0.4.0",
        "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
        "name": NETWORK,
        "loadOnlyInlinedPlugins": true,
        "plugins": [{
            "type": NETWORK,
            "capabilities": BTreeMap::from(CAPABILITIES.map(|capability| (capability, true))),
            "stateDir": state,
        }],
    })
}

fn ensure(path: &Path, content: &[u8], mode: u32) -> Result<bool, CniFilesError> {
    if fs::read_optional(path)?.as_deref() == Some(content) {
        return Ok(false);
    }
    fs::write_atomically(path, content, mode)?;
    Ok(true)
}

/// Removes everything that this module writes, the configuration file first: from then on the node takes no pods.
pub fn remove_all(paths: &Paths) -> Result<(), CniFilesError> {
    fs::remove(&paths.conflist())?;
    for name in BINARIES {
        let path = paths.binary(name);
        if fs::read_optional(&path)?.is_some_and(|content| is_ours(&content)) {
            fs::remove(&path)?;
        }
    }
    Ok(fs::remove(&paths.node_file())?)
}

/// Removes what the agent kept on disk, where there is anything. It comes when nobody writes there any more.
pub fn remove_kept(paths: &Paths) -> Result<(), CniFilesError> {
    let path = paths.kept();
    match std::fs::remove_dir_all(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(fs::Error::new(fs::Operation::Remove, path, source).into())
        }
        _ => Ok(()),
    }
}

/// Empties the agent's own folder. The folder itself is where it is mounted, and stays until the next start of the node.
pub fn remove_state(paths: &Paths) -> io::Result<()> {
    for entry in std::fs::read_dir(&paths.state)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(root: &Path) -> Paths {
        let paths = Paths {
            state: root.join("state"),
            lasting: root.join("lasting"),
            state_on_node: "/run/towpath".into(),
            cni_conf: root.join("net.d"),
            cni_bin: root.join("bin"),
            cni_binary: root.join("towpath"),
            sysctls: root.join("sys"),
        };
        std::fs::write(&paths.cni_binary, "towpath.dev of today").unwrap();
        paths
    }

    #[test]
    fn binaries_are_installed_and_updated_but_a_foreign_loopback_stays() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        std::fs::create_dir(&paths.cni_bin).unwrap();
        std::fs::write(paths.binary("towpath"), "towpath.dev of yesterday").unwrap();
        std::fs::write(paths.binary("loopback"), "somebody else's").unwrap();
        let mut binaries = Binaries::default();
        assert!(binaries.install(&paths).unwrap().is_empty());
        assert_eq!(std::fs::read(paths.binary("towpath")).unwrap(), b"towpath.dev of today");
        assert_eq!(std::fs::read(paths.binary("loopback")).unwrap(), b"somebody else's");
        std::fs::remove_file(paths.binary("towpath")).unwrap();
        assert_eq!(binaries.install(&paths).unwrap(), ["towpath"]);
        assert!(binaries.install(&paths).unwrap().is_empty());
        remove_all(&paths).unwrap();
        assert!(!paths.binary("towpath").exists());
        assert!(paths.binary("loopback").exists());
    }

    #[test]
    fn the_configuration_file_is_written_once_and_again_only_where_it_was_altered() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        assert!(write_conflist(&paths).unwrap());
        assert!(!write_conflist(&paths).unwrap());
        std::fs::write(paths.conflist(), "{}").unwrap();
        assert!(write_conflist(&paths).unwrap());
        assert_eq!(std::fs::read_dir(&paths.cni_conf).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_binary_is_named() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths { cni_binary: "/nowhere/towpath".into(), ..paths(root.path()) };
        assert!(Binaries::default().install(&paths).unwrap_err().to_string().contains("/nowhere/towpath"));
    }

    #[test]
    fn a_range_that_is_open_is_not_offered_anew_and_one_that_is_gone_no_longer() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let state = |cidrs: &str| -> NodeState {
            serde_json::from_str(&format!(
                r#"{{"node": "n3", "spec": {{"revision": "7f3a91c", "addresses": [], "podCIDRs": {cidrs}, "attachment": "Routed",
                "transport": {{"prefers": [], "accepts": []}}, "masquerade": {{"mode": "Off"}}}}}}"#
            ))
            .unwrap()
        };
        let offered = || node_file_there(&paths).unwrap().unwrap().pod_cidrs;
        let [a, b]: [IpNet; 2] = ["10.244.1.0/24", "10.244.2.0/24"].map(|cidr| cidr.parse().unwrap());
        write_node_file(&paths, &state(r#"["10.244.1.0/24"]"#), 1500, &[], Some(false)).unwrap();
        let both = state(r#"["10.244.1.0/24", "10.244.2.0/24"]"#);
        write_node_file(&paths, &both, 1500, &[a, b], None).unwrap();
        assert_eq!(offered(), [a], "what was offered stays, what is open is not added");
        write_node_file(&paths, &both, 1500, &[], None).unwrap();
        retract(&paths, &state(r#"["10.244.2.0/24", "10.244.3.0/24"]"#).spec).unwrap();
        assert_eq!(offered(), [b]);
    }

    #[test]
    fn no_pod_starts_before_it_is_known_whether_there_are_policies() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let spec = NodeSpec::plain(Vec::new(), vec!["10.244.1.0/24".parse().unwrap()]);
        let state = NodeState { node: "n3".into(), spec, peers: BTreeMap::new() };
        let said = [None, Some(true), None, Some(false), None].map(|is_enforced| {
            write_node_file(&paths, &state, 1500, &[], is_enforced).unwrap();
            node_file_there(&paths).unwrap().map(|there| there.startup.is_some())
        });
        assert_eq!(said, [None, Some(true), Some(true), Some(false), Some(false)]);
    }
}
