//! A space to make images in: buildah, debootstrap and containerd write to its folders, never to the host's.

use std::{fs, path::Path, process::Command};

use super::ImageError;
use crate::{
    cgroup::CgroupTree,
    space::{Blueprint, Space},
};

/// A space that ends with this value.
pub(super) struct Workshop<'a> {
    pub space: Space,
    cgroups: &'a CgroupTree,
}

const NAME: &str = "workshop";

impl<'a> Workshop<'a> {
    /// Opens a workshop below `folder`. The folders given are seen in it, read-only.
    pub fn open(folder: &Path, folders: &[(&Path, &str)], cgroups: &'a CgroupTree) -> Result<Self, ImageError> {
        let root = folder.join("workshop");
        fs::create_dir_all(root.join("etc")).map_err(ImageError::io("create", &root))?;
        fs::create_dir_all(root.join("var/tmp")).map_err(ImageError::io("create", &root))?;
        // buildah asks for a policy even where nothing is pulled.
        let policy = root.join("etc/containers/policy.json");
        fs::create_dir_all(root.join("etc/containers")).map_err(ImageError::io("create", &policy))?;
        fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)
            .map_err(ImageError::io("write", &policy))?;
        let files = cgroups.create(NAME)?;
        let record = folder.join("workshop.json");
        let space = Space::create(Blueprint { name: NAME, root: &root, folders, cgroups: files, record: &record })?;
        Ok(Self { space, cgroups })
    }

    /// buildah with storage of its own.
    pub fn buildah(&self) -> Command {
        let mut command = self.space.command("buildah");
        command.args(["--root", "/var/storage", "--runroot", "/run/storage", "--storage-driver", "vfs"]);
        command.env("TMPDIR", "/var/tmp").env("HOME", "/root");
        command
    }
}

impl Drop for Workshop<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.cgroups.destroy(Some(NAME)) {
            tracing::error!(%error, "Workshop not ended");
        }
    }
}
