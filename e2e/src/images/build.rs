//! Making images from Containerfiles, with buildah and without the network.

use std::{fs, path::Path};

use super::{ImageError, workshop::Workshop};
use crate::{cgroup::CgroupTree, run};

/// Makes an image of a Containerfile and its context and writes it as a docker archive that `lab load-image` takes.
/// The name is the image's, with its tag.
///
/// # Errors
/// When a step of the Containerfile fails or the archive cannot be written.
pub fn build_archive(
    containerfile: &Path,
    context: &Path,
    name: &str,
    archive: &Path,
    cgroups: &CgroupTree,
) -> Result<(), ImageError> {
    let aside = archive.with_extension("build");
    let result = build_in(&aside, containerfile, context, name, archive, cgroups);
    remove(&aside)?;
    result
}

fn build_in(
    aside: &Path,
    containerfile: &Path,
    context: &Path,
    name: &str,
    archive: &Path,
    cgroups: &CgroupTree,
) -> Result<(), ImageError> {
    remove(aside)?;
    fs::create_dir_all(aside).map_err(ImageError::io("create", aside))?;
    let workshop = Workshop::open(aside, &[(context, "context")], cgroups)?;
    let file = workshop.space.root.join("Containerfile");
    fs::copy(containerfile, &file).map_err(ImageError::io("copy", containerfile))?;
    build(&workshop, "/Containerfile", "/context", name, "/image.tar")?;
    let made = workshop.space.root.join("image.tar");
    fs::rename(&made, archive).map_err(ImageError::io("rename", made))
}

/// As [`build_archive`], with paths in the workshop.
pub(super) fn build(
    workshop: &Workshop<'_>,
    containerfile: &str,
    context: &str,
    name: &str,
    archive: &str,
) -> Result<(), ImageError> {
    let failed = |source| ImageError::Make { image: name.to_owned(), source };
    let mut bud = workshop.buildah();
    bud.args([
        "bud",
        "--isolation",
        "chroot",
        "--pull=false",
        "--quiet",
        "--tag",
        name,
        "--file",
        containerfile,
        context,
    ]);
    run::run(&mut bud).map_err(failed)?;
    let mut push = workshop.buildah();
    push.args(["push", "--quiet", "--disable-compression", name, &format!("docker-archive:{archive}:{name}")]);
    run::run(&mut push).map(drop).map_err(failed)
}

/// Removes a folder; there being none is success.
pub(super) fn remove(folder: &Path) -> Result<(), ImageError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ImageError::io("remove", folder)(error)),
        _ => Ok(()),
    }
}
