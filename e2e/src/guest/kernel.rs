//! The guest's kernel, out of Debian's package into the cache.
//!
//! ```text
//! CACHE/guest/PACKAGE_VERSION/kernel             what the emulator boots
//! CACHE/guest/PACKAGE_VERSION/lib/modules/...    its modules, unpacked, for modprobe(8) with `-d`
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    GuestError,
    machine::{Image, Machine},
};
use crate::{
    binaries::{aside, cache},
    progress::Progress,
    run::{RunError, run},
};

/// A kernel package of a version.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
}

/// The folder of the newest kernel that the machine's package lists name; fetched where it is not there.
pub(super) fn find(machine: &Machine, progress: &Progress) -> Result<PathBuf, GuestError> {
    let package = newest(machine)?;
    let folder = cache()?.join("guest").join(format!("{}_{}", package.name, package.version.replace(':', "_")));
    if !folder.is_dir() {
        let title = format!("fetch {} {} for the guest", package.name, package.version);
        progress.step(&title, || aside(&folder, |aside| fill(machine, &package, aside)))?;
    }
    Ok(folder)
}

/// What the first of the machine's packages that is known depends on.
fn newest(machine: &Machine) -> Result<Package, GuestError> {
    for name in machine.kernels {
        let shown = run(Command::new("apt-cache").args(["show", "--no-all-versions", name]));
        // It fails where it knows no such package.
        let text = shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if let Some(package) = dependency(&text) {
            return Ok(package);
        }
    }
    Err(GuestError::NoKernel(machine.kernels.join(" or ")))
}

/// The package and version in a field such as `Depends: linux-image-6.12.1-cloud-amd64 (= 6.12.1-1)`.
fn dependency(record: &str) -> Option<Package> {
    let depends = record.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let (name, rest) = depends.split_once(" (= ")?;
    let (version, _) = rest.split_once(')')?;
    Some(Package { name: name.to_owned(), version: version.to_owned() })
}

fn fill(machine: &Machine, package: &Package, folder: &Path) -> Result<(), GuestError> {
    let (name, version) = (&package.name, &package.version);
    let failed = |source: RunError| GuestError::Package { package: name.clone(), source };
    run(Command::new("apt-get").args(["download", "-qq", &format!("{name}={version}")]).current_dir(folder))
        .map_err(failed)?;
    let archive = only(folder, "deb")?;
    run(Command::new("dpkg").arg("-x").arg(&archive).arg(folder)).map_err(failed)?;
    fs::remove_file(&archive).map_err(GuestError::io("remove", &archive))?;
    let modules = folder.join("lib/modules");
    // Unpacked here once, not by an emulated processor in every guest.
    let unpack = "find lib -name '*.ko.xz' -print0 | xargs -0 -r -n 64 unxz";
    run(Command::new("sh").args(["-c", unpack]).current_dir(folder)).map_err(failed)?;
    let release = only(&modules, "")?;
    let release = release.file_name().unwrap_or_default();
    run(Command::new("depmod").arg("-b").arg(folder).arg(release)).map_err(failed)?;
    let image = folder.join("boot").join(format!("vmlinuz-{}", release.to_string_lossy()));
    let kernel = folder.join("kernel");
    match machine.image {
        Image::Plain => fs::rename(&image, &kernel).map_err(GuestError::io("rename", &image)),
        Image::BootProtocol => unpack_payload(&image, &kernel).and_then(|payload| {
            run(Command::new("zstd").args(["-dq", "--rm", "--long=31", "-o"]).arg(&kernel).arg(payload))
                .map(drop)
                .map_err(failed)
        }),
    }
}

/// The only entry of a folder whose name ends so.
fn only(folder: &Path, extension: &str) -> Result<PathBuf, GuestError> {
    let entries = fs::read_dir(folder).map_err(GuestError::io("read", folder))?;
    let mut found = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| extension.is_empty() || path.extension().is_some_and(|other| other == extension));
    found.next().ok_or_else(|| GuestError::Image { path: folder.to_owned(), reason: "has nothing of a kernel" })
}

/// `setup_sects` of the boot protocol: how many sectors come before the kernel, less one.
const SETUP_SECTORS: usize = 0x1f1;
/// `payload_offset` and `payload_length`, from version 2.08 of the boot protocol on.
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;
/// What Zstandard's frames begin with (RFC 8878, section 3.1.1).
const ZSTANDARD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The kernel's build appends the size of the unpacked payload.
const TRAILER: usize = 4;

/// Writes the payload of a boot image (Documentation/arch/x86/boot.rst in the kernel's sources) beside `to`; returns
/// where it is.
fn unpack_payload(image: &Path, to: &Path) -> Result<PathBuf, GuestError> {
    let bytes = fs::read(image).map_err(GuestError::io("read", image))?;
    let malformed = |reason| GuestError::Image { path: image.to_owned(), reason };
    let payload = payload(&bytes).ok_or_else(|| malformed("is no boot image with a payload"))?;
    if !payload.starts_with(&ZSTANDARD) {
        return Err(malformed("is not packed with Zstandard"));
    }
    let packed = to.with_extension("zst");
    fs::write(&packed, payload).map_err(GuestError::io("write", &packed))?;
    Ok(packed)
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let sectors = match *image.get(SETUP_SECTORS)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * SECTOR + number(PAYLOAD_OFFSET)?;
    let length = number(PAYLOAD_LENGTH)?.checked_sub(TRAILER)?;
    image.get(start..start.checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_package_of_the_newest_depends_on() {
        let record = "Package: a\nDepends: linux-image-6.12.1+deb12-cloud-amd64 (= 6.12.1-1~deb12u1)\nSize: 1";
        let package = dependency(record).unwrap();
        assert_eq!((&*package.name, &*package.version), ("linux-image-6.12.1+deb12-cloud-amd64", "6.12.1-1~deb12u1"));
        assert_eq!(dependency("N: Unable to locate package"), None);
    }

    #[test]
    fn a_payload_is_where_the_header_says_and_an_image_that_is_cut_off_has_none() {
        let mut image = vec![0; 2048];
        image[SETUP_SECTORS] = 1;
        image[PAYLOAD_OFFSET] = 16;
        image[PAYLOAD_LENGTH] = 7;
        image[1024 + 16..1024 + 23].copy_from_slice(b"abcSIZE");
        assert_eq!(payload(&image), Some(&b"abc"[..]));
        assert_eq!(payload(&image[..1030]), None);
        assert_eq!(payload(&[]), None);
    }
}
