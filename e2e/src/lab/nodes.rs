//! Nodes: how one starts, ends, restarts and moves.

use std::{fs, io, path::PathBuf, process::Output, thread::ScopedJoinHandle, time::Duration};

use k8s_openapi::jiff::Timestamp;

use super::{Lab, LabError, read, write};
use crate::{
    component::{Component, Kind},
    config::NodeName,
    images::{self, ImageStore},
    node::{self, Node, Surroundings},
    pki::Authority,
    preflight,
    space::Space,
    wait::Look,
    wire::{self, WIRE},
};

const CONTAINERD_LIMIT: Duration = Duration::from_secs(30);
const MOST_NODES: u8 = 64;

/// A node of a lab.
pub struct NodeHandle<'a> {
    lab: &'a Lab,
    node: Node,
}

impl<'a> NodeHandle<'a> {
    pub(super) fn new(lab: &'a Lab, node: Node) -> Self {
        Self { lab, node }
    }

    /// What stays of it when it restarts.
    pub fn identity(&self) -> &Node {
        &self.node
    }

    /// Its addresses on the wire, the primary one first.
    pub fn addresses(&self) -> Vec<std::net::IpAddr> {
        self.node.addresses(&self.lab.config)
    }

    /// Its space.
    ///
    /// # Errors
    /// When its record does not read.
    pub fn space(&self) -> Result<Space, LabError> {
        self.lab.space(self.node.name.as_str())
    }

    /// Runs a command on it, in all of its namespaces, and returns its output, whatever its status.
    ///
    /// # Errors
    /// When the command cannot be started.
    pub fn exec(&self, arguments: &[&str]) -> Result<Output, LabError> {
        self.space()?.exec(arguments)
    }

    /// Its network namespace.
    ///
    /// # Errors
    /// When its record does not read.
    pub fn netns_path(&self) -> Result<PathBuf, LabError> {
        Ok(self.space()?.namespace("net"))
    }

    /// Its root folder as the host sees it: `/etc`, `/opt` and `/var` of the node are below it.
    pub fn root(&self) -> PathBuf {
        self.lab.folder.space_root(self.node.name.as_str())
    }
}

impl Lab {
    pub(super) fn write_node_files(&self, node: &Node, authority: &Authority) -> Result<(), LabError> {
        let root = self.folder.space_root(node.name.as_str());
        let (server, cgroup) = (self.server(), self.cgroups.root_of(node.name.as_str()));
        let around = Surroundings { config: &self.config, authority, server: &server, cgroup: &cgroup };
        Ok(node::write_files(node, &root, &around)?)
    }

    /// Gives a node the images and starts containerd.
    pub(super) fn start_runtime(&self, node: &Node, images: &ImageStore) -> Result<(), LabError> {
        images.copy_to(&self.folder.space_root(node.name.as_str()).join("var/lib/containerd"))?;
        self.start_containerd(node)
    }

    /// Starts containerd and waits until it serves: a kubelet that does not find it gives up at once.
    fn start_containerd(&self, node: &Node) -> Result<(), LabError> {
        self.launch_node(node, Kind::Containerd)?;
        let space = self.space(node.name.as_str())?;
        self.wait_on(&[Kind::Containerd], &format!("containerd on {} to serve", node.name), CONTAINERD_LIMIT, || {
            Ok(if images::containerd_ready(&space) { Look::Found(()) } else { Look::NotYet("no answer".to_owned()) })
        })
    }

    fn launch_node(&self, node: &Node, kind: Kind) -> Result<(), LabError> {
        self.launch_in(node.name.as_str(), kind, node::arguments(kind, node, &self.config))
    }

    /// Starts what needs the API server.
    pub(super) fn start_agents(&self, node: &Node) -> Result<(), LabError> {
        self.launch_node(node, Kind::Kubelet)?;
        self.launch_node(node, Kind::KubeProxy)
    }

    /// Adds a node, `nN` with the least free number unless it is named, and waits until it is registered.
    ///
    /// # Errors
    /// When the name is taken, there is no room, or the node does not start.
    pub fn node_add(&self, name: Option<NodeName>) -> Result<Node, LabError> {
        let _alone = self.exclusive()?;
        let present = self.nodes();
        let free = |ordinal: &u8| present.iter().all(|node| node.ordinal != *ordinal);
        let ordinal = (1..=MOST_NODES).find(free).ok_or_else(|| LabError::Full(self.config.name.clone()))?;
        let name = name.unwrap_or_else(|| NodeName::numbered(ordinal));
        if self.folder.space_record(name.as_str()).exists() {
            return Err(LabError::NodeExists { lab: self.config.name.clone(), node: name });
        }
        preflight::check_inotify(1, false)?;
        let node = Node::new(name, ordinal, &self.config);
        let images = self.image_store()?;
        write(&self.folder.node_record(&node.name), &node)?;
        let added = self.progress.step(&format!("node {}", node.name), || self.begin_node(&node, Some(&images)));
        if let Err(error) = added {
            drop(self.kubectl(&["delete", "node", node.name.as_str(), "--ignore-not-found", "--wait=false"]));
            if let Err(left) = self.clear_node(&node) {
                tracing::error!(error = %left, node = %node.name, "Node not removed");
            }
            return Err(error);
        }
        Ok(node)
    }

    /// Space, wire, files and programs of a node that is not running. Without `images` it keeps those that it has.
    fn begin_node(&self, node: &Node, images: Option<&ImageStore>) -> Result<(), LabError> {
        let began = Timestamp::now();
        let space = self.create_space(node.name.as_str())?;
        wire::attach(&self.space(WIRE)?, &space, node.port(), &self.config)?;
        if let Some(images) = images {
            self.write_node_files(node, &Authority::open(&self.folder.pki())?)?;
            self.start_runtime(node, images)?;
            self.load_kept_images(node)?;
        } else {
            self.start_containerd(node)?;
        }
        self.start_agents(node)?;
        self.wait_for_nodes(std::slice::from_ref(node), began)
    }

    /// Takes a node away: its `Node` object, its processes, its folder.
    ///
    /// # Errors
    /// When there is none, or something of it cannot be ended.
    pub fn node_remove(&self, name: &str) -> Result<(), LabError> {
        let _alone = self.exclusive()?;
        let node = self.node(name)?.node;
        self.progress.step(&format!("node {name} removed"), || {
            self.end_node(&node)?;
            self.kubectl(&["delete", "node", name, "--ignore-not-found", "--wait=false"])?;
            self.clear_node(&node)
        })
    }

    /// Removes what there is of a node on this machine; parts that are missing do not matter.
    fn clear_node(&self, node: &Node) -> Result<(), LabError> {
        let name = node.name.as_str();
        for component in self.components_of(name) {
            component.forget(&self.folder.records());
        }
        self.cgroups.destroy(Some(name))?;
        let gone = |result: io::Result<()>| {
            result.or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
        };
        let root = self.folder.space_root(name);
        gone(fs::remove_dir_all(&root)).map_err(LabError::io("remove", root))?;
        for record in [self.folder.space_record(name), self.folder.node_record(&node.name)] {
            gone(fs::remove_file(&record)).map_err(LabError::io("remove", record))?;
        }
        Ok(())
    }

    /// Keeps other commands from changing the lab's nodes until the value is dropped.
    fn exclusive(&self) -> Result<fs::File, LabError> {
        let path = self.folder.config();
        let file = fs::File::open(&path).map_err(LabError::io("open", &path))?;
        file.lock().map_err(LabError::io("lock", path))?;
        Ok(file)
    }

    fn components_of(&self, name: &str) -> Vec<Component> {
        let all = Component::all(&self.folder.records()).into_iter();
        all.filter(|component| component.id.space == name).collect()
    }

    /// Ends everything on a node at once, as a power cut would.
    fn end_node(&self, node: &Node) -> Result<(), LabError> {
        let name = node.name.as_str();
        for mut component in self.components_of(name) {
            component.signal(rustix::process::Signal::KILL, &self.folder.records())?;
        }
        let space = self.space(name)?;
        space.end()?;
        self.cgroups.destroy(Some(name))?;
        wire::detach(&self.space(WIRE)?, name, node.port());
        Ok(())
    }

    /// Ends a node as a power cut would and starts it again: same name and addresses, same disk; nothing else
    /// of it lives on.
    ///
    /// # Errors
    /// When there is none, or it does not come back.
    pub fn node_restart(&self, name: &str) -> Result<(), LabError> {
        let _alone = self.exclusive()?;
        let node = self.node(name)?.node;
        self.progress.step(&format!("node {name} restarted"), || {
            self.end_node(&node)?;
            self.begin_node(&node, None)
        })
    }

    /// Gives a node another address on its subnet, and restarts the programs that were told the old one.
    ///
    /// # Errors
    /// When there is none, or the kernel refuses.
    pub fn node_readdress(&self, name: &str) -> Result<Node, LabError> {
        let _alone = self.exclusive()?;
        let old = self.node(name)?.node;
        let new = Node { host: old.host.other(), ..old.clone() };
        self.progress.step(&format!("node {name} readdressed"), || {
            wire::readdress(&self.space(name)?, old.port(), new.port(), &self.config)?;
            write(&self.folder.node_record(&new.name), &new)?;
            self.write_node_files(&new, &Authority::open(&self.folder.pki())?)?;
            for kind in [Kind::Kubelet, Kind::KubeProxy] {
                self.stop_component(&crate::component::ComponentId::on(name, kind))?;
            }
            let began = Timestamp::now();
            self.start_agents(&new)?;
            self.wait_for_nodes(std::slice::from_ref(&new), began)
        })?;
        Ok(new)
    }

    /// Loads an image archive (docker or OCI) into every node, and into those that come later.
    ///
    /// # Errors
    /// When the file does not read or a node refuses it.
    pub fn load_image(&self, archive: &std::path::Path) -> Result<(), LabError> {
        let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kept = self.folder.images().join(&name);
        if kept != archive {
            fs::copy(archive, &kept).map_err(LabError::io("copy", archive))?;
        }
        self.progress.step(&format!("image {name} loaded"), || {
            std::thread::scope(|scope| {
                let import = |node: Node| {
                    scope.spawn({
                        let kept = kept.clone();
                        move || self.import(&node, &kept)
                    })
                };
                let handles = self.nodes().into_iter().map(import).collect::<Vec<_>>();
                handles.into_iter().try_for_each(join)
            })
        })
    }

    /// Makes an image of a Containerfile and loads it into every node.
    ///
    /// # Errors
    /// When it cannot be made or loaded.
    pub fn build_and_load(
        &self,
        containerfile: &std::path::Path,
        context: &std::path::Path,
        tag: &str,
    ) -> Result<(), LabError> {
        let archive = self.folder.images().join(format!("{}.tar", tag.replace(['/', ':'], "_")));
        self.progress.long_step(&format!("image {tag}"), || {
            images::build_archive(containerfile, context, tag, &archive, &self.cgroups)
        })?;
        self.load_image(&archive)
    }

    fn load_kept_images(&self, node: &Node) -> Result<(), LabError> {
        let folder = self.folder.images();
        let entries = fs::read_dir(&folder).map_err(LabError::io("read", folder))?;
        entries.filter_map(Result::ok).try_for_each(|entry| self.import(node, &entry.path()))
    }

    fn import(&self, node: &Node, archive: &std::path::Path) -> Result<(), LabError> {
        let space = self.space(node.name.as_str())?;
        Ok(images::import(&space, archive)?)
    }

    /// A node's record, read anew.
    ///
    /// # Errors
    /// When there is none or it does not read.
    pub fn node_record(&self, name: &NodeName) -> Result<Node, LabError> {
        read(&self.folder.node_record(name))
    }
}

/// The result of a thread; one that panicked passes its panic on.
pub(super) fn join<T>(handle: ScopedJoinHandle<'_, Result<T, LabError>>) -> Result<T, LabError> {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
