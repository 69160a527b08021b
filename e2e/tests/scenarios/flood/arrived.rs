//! What arrives in the namespaces of pods.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use towpath_kernel::netns::Namespace;

/// What arrived in a namespace since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    udp4: u64,
    udp6: u64,
    /// Of both families.
    tcp: u64,
}

impl Arrived {
    /// Reads `Udp` and `Tcp` of `/proc/net/snmp`, and `Udp6` of `/proc/net/snmp6`.
    pub fn read(namespace: &Namespace) -> Self {
        let texts = namespace
            .run(|| ["snmp", "snmp6"].map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap()));
        let [both, six] = texts.unwrap();
        let of = |kind: &str, name: &str| {
            let mut lines = both.lines().filter(|line| line.starts_with(kind));
            let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
            let at = names.split(' ').position(|one| one == name).unwrap();
            values.split(' ').nth(at).unwrap().parse::<u64>().unwrap()
        };
        let of6 = |name: &str| -> u64 {
            let line = six.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Self { udp4: of("Udp:", "NoPorts"), udp6: of6("Udp6NoPorts"), tcp: of("Tcp:", "InSegs") }
    }

    /// Whether something of each kind arrived.
    pub fn has_all(self) -> bool {
        self.udp4 > 0 && self.udp6 > 0 && self.tcp > 0
    }
}

/// The namespaces of all pods by their addresses of IPv4.
pub fn namespaces() -> BTreeMap<String, Namespace> {
    let mut seen = BTreeSet::new();
    let mut found: BTreeMap<String, (usize, PathBuf)> = BTreeMap::new();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if !seen.insert(metadata.ino()) {
            continue;
        }
        let table = fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).unwrap_or_default();
        let lines: Vec<&str> = table.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[1] == "/32 host LOCAL") {
            let Some(address) = pair[0].strip_prefix("|-- ") else { continue };
            // A node has gateways of pods, and more besides: a pod's table is the smallest.
            match found.get(address) {
                Some((size, _)) if *size <= table.len() => {}
                _ => _ = found.insert(address.to_owned(), (table.len(), path.clone())),
            }
        }
    }
    found.into_iter().filter_map(|(address, (_, path))| Some((address, Namespace::open(path).ok()?))).collect()
}
