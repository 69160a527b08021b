//! A node whose every trace of attachments can be told in a moment, without starting a program.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde_json::Value;
use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::Kernel;
use towpath_kernel::leases::Store;
use towpath_kernel::link;
use towpath_kernel::netlink::{Protocol, Socket};
use towpath_kernel::release::{Sight, Swept, sweep_node};
use towpath_kernel::sysctl::{ROOT, Sysctls};
use towpath_net::lease::{Lease, Phase, is_host_interface};
use towpath_net::sweep::Scope;

use crate::support::{STATE, wait_until};

/// Makes a network namespace at `/run/netns/NAME`, and returns its path.
pub fn netns(name: &str) -> String {
    let path = format!("/run/netns/{name}");
    fs::write(&path, "").unwrap();
    let maker = std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            mount_bind("/proc/thread-self/ns/net", &path).unwrap();
        });
        made.join()
    });
    maker.unwrap();
    path
}

/// Makes a namespace visible at another path, too.
pub fn bind(from: &str, name: &str) -> String {
    let path = format!("/run/netns/{name}");
    fs::write(&path, "").unwrap();
    mount_bind(from, &path).unwrap();
    path
}

/// Removes a path of a network namespace; with the last one, the namespace goes.
pub fn remove_netns(name: &str) {
    let path = format!("/run/netns/{name}");
    unmount(&path, UnmountFlags::DETACH).unwrap();
    fs::remove_file(&path).unwrap();
}

/// The call of a verb as a command that can be traced, and its input.
pub struct Verb {
    environment: Vec<(&'static str, String)>,
    input: String,
}

impl Verb {
    /// A call for an attachment.
    pub fn of(verb: &str, container: &str, netns: &str, config: &Value) -> Self {
        let environment = vec![
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", container.to_owned()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_NETNS", netns.to_owned()),
            ("CNI_PATH", "/opt/cni/bin".to_owned()),
        ];
        Self { environment, input: config.to_string() }
    }

    /// Kills it at its system call of a number, from 0 on.
    pub fn killed_at(&self, at: usize) -> crate::tracer::Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_towpath"));
        crate::tracer::run(command.env_clear().envs(self.environment.iter().cloned()), &self.input, at)
    }
}

/// What attachments leave traces in.
pub struct Ground {
    kernel: HostKernel,
    node: Socket,
    /// The leases.
    pub store: Store,
}

impl Ground {
    /// The node of this namespace.
    pub fn new() -> Self {
        Self {
            kernel: HostKernel::open(Sysctls::below(ROOT)).unwrap(),
            node: Socket::open(Protocol::Route).unwrap(),
            store: Store::below(Path::new(STATE)),
        }
    }

    /// Links, addresses, routes, elements of nftables sets, and files, each as a line.
    pub fn traces(&mut self) -> BTreeSet<String> {
        let observed = self.kernel.observe(&BTreeSet::new()).unwrap();
        let mut traces = files(&Path::new(STATE).join("leases"));
        traces.extend(link::list(&mut self.node).unwrap().iter().map(|link| format!("link {}", link.name)));
        traces.extend(observed.addresses.iter().map(|address| format!("{address:?}")));
        traces.extend(observed.neighbours.keys().map(|neighbour| format!("neighbour {neighbour}")));
        traces.extend(observed.stations.keys().map(|station| format!("fdb {station}")));
        traces.extend(observed.routes.iter().map(|route| format!("{route:?}")));
        traces.extend(observed.foreign_routes.iter().map(|route| format!("foreign route {route}")));
        for (name, set) in observed.table.iter().flat_map(|table| &table.sets) {
            traces.extend(set.elements.iter().map(|element| format!("{name} {element:?}")));
        }
        traces
    }

    /// Asserts that no trace came or went; `what` happened meanwhile.
    pub fn assert_traces(&mut self, before: &BTreeSet<String>, what: &str) {
        let now = self.traces();
        let came: Vec<_> = now.difference(before).collect();
        let went: Vec<_> = before.difference(&now).collect();
        assert!(came.is_empty() && went.is_empty(), "{what}: came {came:#?}, went {went:#?}");
    }

    /// Names of pods' links.
    pub fn links(&mut self) -> BTreeSet<String> {
        let links = link::list(&mut self.node).unwrap().into_iter().map(|link| link.name);
        links.filter(|name| is_host_interface(name)).collect()
    }

    /// Removes a link, as the kernel does when the namespace of its other end goes.
    pub fn remove_link(&mut self, name: &str) {
        link::delete(&mut self.node, name).unwrap();
    }

    /// Sweeps as the agent does, which must find nothing that it cannot do.
    pub fn sweep(&mut self, sight: Sight) -> Swept {
        let swept = sweep_node(&self.store, &mut self.node, &Scope::Node, sight).unwrap();
        assert!(swept.failed.is_empty() && swept.broken.is_empty(), "{swept:?}");
        swept
    }

    /// Who has which address by the leases. That no two who live share one is asserted: who died before his link was made
    /// has a record, but may have no claim to what it names.
    pub fn holders(&mut self) -> BTreeMap<IpAddr, String> {
        let links = self.links();
        let listing = self.store.read_all().unwrap();
        assert!(listing.broken.is_empty(), "{:?}", listing.broken);
        let mut holders = BTreeMap::new();
        let lives = |lease: &Lease| lease.phase == Phase::Ready || links.contains(&lease.host_interface);
        for lease in listing.leases.into_iter().filter(lives) {
            for leased in &lease.addresses {
                let other = holders.insert(leased.address.addr(), lease.container_id.clone());
                assert_eq!(other, None, "{} is held by {}, too", leased.address, lease.container_id);
            }
        }
        holders
    }

    /// The addresses that routes of this node lead to, by the pods' links that they lead over.
    pub fn routed(&mut self) -> BTreeMap<IpAddr, String> {
        let observed = self.kernel.observe(&BTreeSet::new()).unwrap();
        let over = |route: &towpath_net::observed::Route| {
            route.target.pod_link().map(|link| (route.destination.addr(), link.to_owned()))
        };
        observed.routes.iter().filter_map(over).collect()
    }
}

/// Waits until the kernel has removed all links of ours but these.
pub fn wait_for_links(kept: &BTreeSet<String>) {
    wait_until("the kernel removed the links of namespaces that are gone", || Ground::new().links() == *kept);
}

/// All files and empty folders of leases but those that stay: the lock, the addresses given last, and which rest.
fn files(leases: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![leases.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries: Vec<PathBuf> = fs::read_dir(&folder).into_iter().flatten().map(|e| e.unwrap().path()).collect();
        if entries.is_empty() && folder.strip_prefix(leases).unwrap().components().count() > 1 {
            found.insert(format!("empty folder {}", folder.display()));
        }
        let stays = |path: &Path| ["lock", "cursor", "freed"].iter().any(|name| path == leases.join(name));
        for path in entries.into_iter().filter(|path| !stays(path)) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(format!("file {}", path.display()));
            }
        }
    }
    found
}
