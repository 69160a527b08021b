//! The lab's images as a containerd folder that every node starts on.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::{COREDNS_IMAGE, ImageError, PATIENT_IMAGE, agnhost, aliases, build, workshop::Workshop};
use crate::{
    binaries::{Binaries, cache, digest},
    cgroup::CgroupTree,
    node::SANDBOX_IMAGE,
    pki,
    progress::Progress,
    run,
};

/// A containerd folder with all of the lab's images in it.
#[derive(Debug, Clone)]
pub struct ImageStore {
    folder: PathBuf,
}

const SUITE: &str = "bookworm";
const PACKAGES: &str = "bind9-dnsutils,curl,iproute2,iputils-ping,netcat-openbsd";
const AGNHOST: &str = "FROM scratch\nADD rootfs.tar /\nCOPY agnhost localhost.crt localhost.key /\nEXPOSE 80 8080 8081 9376 5000\nENTRYPOINT [\"/agnhost\"]\nCMD [\"pause\"]\n";
/// The process that holds a pod's namespaces: a few pages of a shell, where agnhost would be 40 MiB for each pod.
const PAUSE: &str = "FROM AGNHOST\nENTRYPOINT [\"/bin/sh\", \"-c\", \"trap 'exit 0' TERM INT; while :; do sleep 86400 & wait; done\"]\nCMD []\n";
/// For suites whose pods also serve SCTP: agnhost ends where the kernel has no such sockets, and its pod would never be ready.
const PATIENT: &str = "FROM AGNHOST\nCOPY agnhost /usr/local/bin/agnhost\nCOPY --chmod=755 patient.sh /agnhost\n";
const PATIENT_SCRIPT: &str = include_str!("patient.sh");
const COREDNS: &str = "FROM scratch\nCOPY coredns /coredns\nENTRYPOINT [\"/coredns\"]\n";
/// Counts up when what is done below changes what comes out.
const EDITION: &str = "1";

impl ImageStore {
    /// The store in the cache, which is filled first when it has to be.
    ///
    /// # Errors
    /// What could not be made.
    pub fn find(binaries: &Binaries, cgroups: &CgroupTree, progress: &Progress) -> Result<Self, ImageError> {
        let images = cache()?.join("images");
        let folder = images.join(format!("store-{}", key(binaries)?));
        if !folder.is_dir() {
            let base =
                images.join(format!("base-{}", digest([SUITE, PACKAGES, EDITION].iter().map(|part| part.as_bytes()))));
            if !base.is_dir() {
                progress.long_step("a small Debian for test images", || {
                    in_cache(&base, |aside| debootstrap(aside, cgroups))
                })?;
            }
            let work = |aside: &Path| fill(aside, &base, binaries, cgroups, progress);
            in_cache(&folder, work)?;
        }
        Ok(Self { folder })
    }

    /// Gives a node its containerd folder. What containerd never changes (blobs, committed layers) is linked, where the
    /// file systems allow it; databases are copied.
    ///
    /// # Errors
    /// When the copy fails.
    pub fn copy_to(&self, target: &Path) -> Result<(), ImageError> {
        let source = self.folder.join("containerd");
        let failed = |source| ImageError::Make { image: "store".to_owned(), source };
        let linked = same_file_system(&source, target);
        let how = if linked { "--archive --link" } else { "--archive --reflink=auto" };
        let mut copy = Command::new("cp");
        copy.args(how.split(' ')).arg(source.join(".")).arg(target);
        run::run(&mut copy).map_err(failed)?;
        if linked {
            for database in databases(&source) {
                let inside = database.strip_prefix(&source).unwrap_or(&database);
                let copy = target.join(inside);
                fs::remove_file(&copy).map_err(ImageError::io("replace", &copy))?;
                fs::copy(&database, &copy).map_err(ImageError::io("copy", &database))?;
            }
        }
        Ok(())
    }
}

fn same_file_system(a: &Path, b: &Path) -> bool {
    let device = |path: &Path| path.metadata().ok().map(|metadata| metadata.dev());
    device(a).is_some() && device(a) == device(b)
}

/// The files of bbolt, which writes in place: they are all that containerd writes to after an image is unpacked.
fn databases(folder: &Path) -> Vec<PathBuf> {
    let plugins = ["io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db"];
    plugins.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect()
}

/// What the store depends on. Programs count by size and time: they are large, and never written in place.
fn key(binaries: &Binaries) -> Result<String, ImageError> {
    let mut parts =
        [SUITE, PACKAGES, AGNHOST, PAUSE, PATIENT, PATIENT_SCRIPT, COREDNS, EDITION].map(str::to_owned).to_vec();
    parts.push(agnhost());
    parts.extend(aliases());
    for program in ["agnhost", "coredns", "containerd"] {
        let path = binaries.path(program);
        let metadata = fs::metadata(&path).map_err(ImageError::io("read", &path))?;
        parts.push(format!("{} {}.{}", metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
    }
    Ok(digest(parts.iter().map(String::as_bytes)))
}

/// Fills a folder of the cache under a lock, aside, and renames it.
fn in_cache(folder: &Path, fill: impl FnOnce(&Path) -> Result<(), ImageError>) -> Result<(), ImageError> {
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(ImageError::io("create", parent))?;
    let lock_path = folder.with_extension("lock");
    let lock = fs::File::create(&lock_path).map_err(ImageError::io("create", &lock_path))?;
    lock.lock().map_err(ImageError::io("lock", &lock_path))?;
    if folder.is_dir() {
        return Ok(());
    }
    let aside = folder.with_extension("new");
    build::remove(&aside)?;
    fs::create_dir(&aside).map_err(ImageError::io("create", &aside))?;
    match fill(&aside) {
        Ok(()) => fs::rename(&aside, folder).map_err(ImageError::io("rename", folder)),
        Err(error) => build::remove(&aside).and(Err(error)),
    }
}

/// The root file system, as a tar archive. The host's package sources and resolver are used to fetch it.
fn debootstrap(folder: &Path, cgroups: &CgroupTree) -> Result<(), ImageError> {
    let workshop = Workshop::open(folder, &[], cgroups)?;
    let resolver = workshop.space.root.join("etc/resolv.conf");
    fs::copy("/etc/resolv.conf", &resolver).map_err(ImageError::io("copy", "/etc/resolv.conf"))?;
    let failed = |source| ImageError::Make { image: "base".to_owned(), source };
    let mut command = workshop.space.online_command("debootstrap");
    for (variable, value) in std::env::vars().filter(|(name, _)| name.to_lowercase().ends_with("_proxy")) {
        command.env(variable, value);
    }
    command.args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE, "/var/rootfs"]);
    run::run(&mut command).map_err(failed)?;
    let mut pack = workshop.space.command("tar");
    pack.args("--create --file=/rootfs.tar --directory=/var/rootfs --numeric-owner --exclude=./var/cache/apt --exclude=./var/lib/apt/lists --exclude=./dev .".split(' '));
    run::run(&mut pack).map_err(failed)?;
    let made = workshop.space.root.join("rootfs.tar");
    fs::rename(&made, folder.join("rootfs.tar")).map_err(ImageError::io("rename", made))?;
    finish(workshop, folder)
}

/// Ends a workshop and removes what it leaves.
fn finish(workshop: Workshop<'_>, folder: &Path) -> Result<(), ImageError> {
    drop(workshop);
    build::remove(&folder.join("workshop"))?;
    let record = folder.join("workshop.json");
    fs::remove_file(&record).map_err(ImageError::io("remove", record))
}

fn fill(
    folder: &Path,
    base: &Path,
    binaries: &Binaries,
    cgroups: &CgroupTree,
    progress: &Progress,
) -> Result<(), ImageError> {
    let workshop = Workshop::open(folder, &[(binaries.folder(), "opt/lab/bin")], cgroups)?;
    let context = workshop.space.root.join("context");
    fs::create_dir(&context).map_err(ImageError::io("create", &context))?;
    let loopback = pki::loopback_server()?;
    let texts = [
        ("localhost.crt", loopback.certificate),
        ("localhost.key", loopback.key),
        ("patient.sh", PATIENT_SCRIPT.to_owned()),
    ];
    for (name, text) in texts {
        let path = context.join(name);
        fs::write(&path, text).map_err(ImageError::io("write", path))?;
    }
    let copies = [
        (base.join("rootfs.tar"), "rootfs.tar"),
        (binaries.path("agnhost"), "agnhost"),
        (binaries.path("coredns"), "coredns"),
    ];
    for (from, to) in copies {
        fs::copy(&from, context.join(to)).map_err(ImageError::io("copy", from))?;
    }
    let images = [
        ("agnhost", AGNHOST.to_owned(), agnhost()),
        ("pause", PAUSE.replace("AGNHOST", &agnhost()), SANDBOX_IMAGE.to_owned()),
        ("patient", PATIENT.replace("AGNHOST", &agnhost()), PATIENT_IMAGE.to_owned()),
        ("coredns", COREDNS.to_owned(), COREDNS_IMAGE.to_owned()),
    ];
    for (name, text, image) in images {
        let file = workshop.space.root.join(format!("{name}.containerfile"));
        fs::write(&file, &text).map_err(ImageError::io("write", file))?;
        progress.long_step(&format!("image {name}"), || {
            build::build(&workshop, &format!("/{name}.containerfile"), "/context", &image, &format!("/{name}.tar"))
        })?;
    }
    progress.long_step("images unpacked for all nodes", || unpack(&workshop))?;
    let made = workshop.space.root.join("store");
    fs::rename(&made, folder.join("containerd")).map_err(ImageError::io("rename", made))?;
    finish(workshop, folder)
}

/// Loads the archives into a containerd that is then ended, and gives the test image its other names.
const UNPACK: &str = r#"
printf 'version = 3\nroot = "/store"\nstate = "/run/containerd"\n[grpc]\naddress = "/run/containerd/containerd.sock"\n' >/containerd.toml
containerd --config /containerd.toml --log-level warn >/containerd.log 2>&1 &
daemon=$!
tries=0
until ctr version >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ $tries -gt 150 ]; then cat /containerd.log >&2; exit 1; fi
  sleep 0.1
done
for archive in /agnhost.tar /pause.tar /patient.tar /coredns.tar; do ctr --namespace k8s.io images import --local --snapshotter overlayfs "$archive"; done
image=$1
shift
for name in "$@"; do ctr --namespace k8s.io images tag "$image" "$name"; done
kill $daemon
wait $daemon || true
"#;

fn unpack(workshop: &Workshop<'_>) -> Result<(), ImageError> {
    let mut script = workshop.space.command("sh");
    script.args(["-ec", UNPACK, "unpack", &agnhost()]).args(aliases());
    let failed = |source| ImageError::Make { image: "store".to_owned(), source };
    run::run(&mut script).map(drop).map_err(failed)
}
