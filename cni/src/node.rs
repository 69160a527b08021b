//! Reading what the agent rendered for this node.

use std::path::{Path, PathBuf};

use towpath_kernel::fs;
use towpath_net::node_file::NodeFile;

/// Why the agent's file cannot be used. All of it is for the agent to mend, so a runtime should try again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there.
    #[error("{0} is missing: the node agent has not said yet how pods are attached; is its pod running on this node?")]
    Missing(PathBuf),
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// It is not what it should be.
    #[error("{path} is unusable: {reason}; the node agent writes it anew when it starts")]
    Unusable {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads `node.json` in the folder of the node's state.
pub fn read(state: &Path) -> Result<NodeFile, Error> {
    let path = state.join("node.json");
    let content = fs::read_optional(&path)?.ok_or_else(|| Error::Missing(path.clone()))?;
    let unusable = |reason: String| Error::Unusable { path: path.clone(), reason };
    let value: serde_json::Value = serde_json::from_slice(&content).map_err(|error| unusable(error.to_string()))?;
    // The format first: a newer one may have anything in it.
    if value.get("version").and_then(serde_json::Value::as_u64) != Some(NodeFile::VERSION.into()) {
        return Err(unusable(format!(
            "its format is {}, and this plugin reads {}",
            value.get("version").unwrap_or(&serde_json::Value::Null),
            NodeFile::VERSION
        )));
    }
    let node: NodeFile = serde_json::from_value(value).map_err(|error| unusable(error.to_string()))?;
    if node.pod_cidrs.is_empty() {
        return Err(unusable("this node has no pod CIDRs".to_owned()));
    }
    Ok(node)
}
