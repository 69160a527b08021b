//! Ending a lab. The cgroups tell what runs, whatever became of the lab's records.

use super::{Folder, LabError};
use crate::{cgroup::CgroupTree, config::LabName};

pub(super) fn down(name: &LabName) -> Result<(), LabError> {
    let folder = Folder::of(name);
    let cgroups = CgroupTree::of(name)?;
    // Namespaces, links and mounts go with the last process that is in them.
    cgroups.destroy(None)?;
    folder.remove().map_err(LabError::io("remove", folder.path()))
}
