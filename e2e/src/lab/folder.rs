//! A lab's folder: everything that it keeps, in one place.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use crate::config::{LabName, NodeName};

/// Where everything of one lab is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// The folder of all labs: `TOWPATH_LAB_DIR`, or below `/var/lib`, as container layers are too large for a `/run` in memory.
pub fn base() -> PathBuf {
    env::var_os("TOWPATH_LAB_DIR").map_or_else(|| "/var/lib/towpath-lab".into(), PathBuf::from)
}

/// The names of the labs that have a folder.
pub fn labs() -> Vec<LabName> {
    let Ok(entries) = fs::read_dir(base()) else { return Vec::new() };
    let mut names: Vec<LabName> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    names.sort();
    names
}

macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident = $path:literal;)*) => {
        impl Folder {
            $($(#[$doc])* pub fn $name(&self) -> PathBuf { self.0.join($path) })*
        }
    };
}

paths! {
    /// The lab's parameters.
    config = "lab.json";
    /// The address on the host that the API server is reached at.
    endpoint = "endpoint";
    /// For use on the host.
    kubeconfig = "kubeconfig";
    /// For use in the control plane's network namespace.
    inner_kubeconfig = "pki/admin.conf";
    /// The certificate authority.
    pki = "pki";
    /// One record per component.
    records = "components";
    /// One file per component.
    logs = "logs";
    /// One record per node.
    nodes = "nodes";
    /// One record and one root folder per space.
    spaces = "spaces";
    /// Image archives that were loaded, for nodes that come later.
    images = "images";
}

impl Folder {
    /// The folder of this lab, whether it is there or not.
    pub fn of(name: &LabName) -> Self {
        Self(base().join(name.as_str()))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Creates it; one that is there is an error of kind `AlreadyExists`.
    ///
    /// # Errors
    /// The folder that could not be created, with the kernel's answer.
    pub fn create(&self) -> Result<(), (PathBuf, io::Error)> {
        let base = base();
        fs::create_dir_all(&base).map_err(|error| (base, error))?;
        fs::create_dir(&self.0).map_err(|error| (self.0.clone(), error))?;
        for path in [self.pki(), self.records(), self.logs(), self.nodes(), self.spaces(), self.images()] {
            fs::create_dir(&path).map_err(|error| (path, error))?;
        }
        Ok(())
    }

    /// Removes it, and the folder of all labs when this was the last one. There being none is success.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Refused while another lab has its folder there.
        drop(fs::remove_dir(base()));
        Ok(())
    }

    /// The record of a space.
    pub fn space_record(&self, name: &str) -> PathBuf {
        self.spaces().join(format!("{name}.json"))
    }

    /// The root folder of a space.
    pub fn space_root(&self, name: &str) -> PathBuf {
        self.spaces().join(name)
    }

    /// The record of a node.
    pub fn node_record(&self, name: &NodeName) -> PathBuf {
        self.nodes().join(format!("{name}.json"))
    }
}
