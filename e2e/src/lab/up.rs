//! Bringing a lab up. What can start at once does: the API server is the only thing that others wait for.

use std::{net::SocketAddr, path::Path, time::Duration};

use k8s_openapi::jiff::Timestamp;

use super::{Lab, LabError, Manner, command_path, dns, down, folder::Folder, nodes, write};
use crate::{
    address::HostNumber,
    binaries::Binaries,
    component::{Component, ComponentId, Kind},
    config::{LabConfig, LabName},
    control_plane::{self, api_url},
    images::ImageStore,
    node::Node,
    pki::{Authority, Subject, kubeconfig, write_private},
    preflight,
    process::{Launch, Place},
    space::{Blueprint, Space},
    wait::{Look, WaitError},
    wire::{self, CONTROL_PLANE, OUTSIDE, Port, WIRE},
};

const API_LIMIT: Duration = Duration::from_secs(90);

pub(super) fn up(mut config: LabConfig, manner: &Manner) -> Result<Lab, LabError> {
    preflight::check()?;
    preflight::check_inotify(config.nodes, true)?;
    let folder = Folder::of(&config.name);
    let binaries = Binaries::find(config.binaries.as_deref(), &manner.progress)?;
    // Whoever opens the lab later uses what it was begun with, whatever the cache would hold by then.
    config.binaries = Some(binaries.folder().to_owned());
    let name = config.name.clone();
    begin(&name, &folder)?;
    let result = Lab::assemble(config, binaries, manner).and_then(|lab| {
        lab.bring_up(&lab.image_store()?)?;
        Ok(lab)
    });
    result.map_err(|error| {
        // A terminal interrupts what the lab has called, too; that this failed is not what is to be told.
        let interrupted = WaitError::Interrupted { what: "the lab to come up".to_owned() };
        let error = if manner.interrupt.is_set() { interrupted.into() } else { error };
        take_down(&name, &folder, error)
    })
}

/// Removes what there is of a lab that did not come up, but for its logs: they tell why.
fn take_down(name: &LabName, folder: &Folder, error: LabError) -> LabError {
    let logs = std::env::temp_dir().join(format!("towpath-lab-{name}-logs"));
    let asked_for = matches!(error, LabError::Wait(WaitError::Interrupted { .. }));
    let kept = !asked_for && keep(&folder.logs(), &logs).is_ok();
    if let Err(error) = down::down(name) {
        tracing::error!(%error, lab = %name, "Lab not removed");
    }
    if kept { LabError::NotUp { source: Box::new(error.with_logs_in(&logs)), logs } } else { error }
}

/// Copies logs, in the place of those that an earlier failure left.
fn keep(logs: &Path, to: &Path) -> std::io::Result<()> {
    let entries = std::fs::read_dir(logs)?.collect::<Result<Vec<_>, _>>()?;
    if entries.is_empty() {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    std::fs::create_dir(to)?;
    entries.iter().try_for_each(|entry| std::fs::copy(entry.path(), to.join(entry.file_name())).map(drop))
}

fn begin(name: &LabName, folder: &Folder) -> Result<(), LabError> {
    folder.create().map_err(|(path, source)| match source.kind() {
        std::io::ErrorKind::AlreadyExists if path == folder.path() => LabError::Exists(name.clone()),
        _ => LabError::Io { operation: "create", path, source },
    })
}

impl Lab {
    fn bring_up(&self, images: &ImageStore) -> Result<(), LabError> {
        let began = Timestamp::now();
        write(&self.folder.config(), &self.config)?;
        let authority = Authority::open(&self.folder.pki())?;
        let nodes: Vec<Node> =
            (1..=self.config.nodes).map(|n| Node::new(super::ordinal_name(n), n, &self.config)).collect();
        self.progress.step("network namespaces and wire", || self.build_spaces(&nodes))?;
        self.progress.step("certificates and configuration", || self.write_files(&authority, &nodes))?;
        self.start_control_plane()?;
        std::thread::scope(|scope| {
            let stores = nodes.iter().map(|node| scope.spawn(|| self.start_runtime(node, images))).collect::<Vec<_>>();
            self.progress.step("etcd and API server", || self.wait_for_api())?;
            stores.into_iter().try_for_each(nodes::join)
        })?;
        for kind in [Kind::KubeControllerManager, Kind::KubeScheduler] {
            self.launch_in(CONTROL_PLANE, kind, self.control_plane_arguments(kind))?;
        }
        nodes.iter().try_for_each(|node| self.start_agents(node))?;
        self.progress.step("cluster DNS", || dns::deploy(self))?;
        self.progress.step("nodes registered", || self.wait_for_nodes(&nodes, began))?;
        self.load_configured_images()
    }

    pub(super) fn image_store(&self) -> Result<ImageStore, LabError> {
        Ok(ImageStore::find(&self.binaries, &self.cgroups, &self.progress)?)
    }

    fn load_configured_images(&self) -> Result<(), LabError> {
        self.config.images.iter().try_for_each(|image| self.load_image(image))
    }

    fn build_spaces(&self, nodes: &[Node]) -> Result<(), LabError> {
        let names = [WIRE, CONTROL_PLANE, OUTSIDE].into_iter().chain(nodes.iter().map(|node| node.name.as_str()));
        let spaces = std::thread::scope(|scope| {
            let handles = names.map(|name| scope.spawn(move || self.create_space(name))).collect::<Vec<_>>();
            handles.into_iter().map(nodes::join).collect::<Result<Vec<Space>, LabError>>()
        })?;
        let [wire, control_plane, outside, machines @ ..] = spaces.as_slice() else { return Ok(()) };
        wire::build(wire, &self.config)?;
        for port in self.control_plane_ports() {
            wire::attach(wire, control_plane, port, &self.config)?;
        }
        wire::attach(wire, outside, Port::only(crate::address::Subnet::OUTSIDE, HostNumber::FIRST), &self.config)?;
        for (node, space) in nodes.iter().zip(machines) {
            write(&self.folder.node_record(&node.name), node)?;
            wire::attach(wire, space, node.port(), &self.config)?;
        }
        Ok(())
    }

    /// Makes a space, or makes one anew over its old root.
    pub(super) fn create_space(&self, name: &str) -> Result<Space, LabError> {
        let cgroups = self.cgroups.create(name)?;
        let root = self.folder.space_root(name);
        let folders: &[(&Path, &str)] = &[(self.binaries.folder(), "opt/lab/bin")];
        Ok(Space::create(Blueprint { name, root: &root, folders, cgroups, record: &self.folder.space_record(name) })?)
    }

    /// The control plane has a leg in every subnet with nodes.
    fn control_plane_ports(&self) -> Vec<Port> {
        let port = |index| Port { index, subnet: crate::address::Subnet(index), host: HostNumber::FIRST };
        (0..self.config.subnets).map(port).collect()
    }

    fn control_plane_address(&self) -> std::net::IpAddr {
        let port = Port::only(crate::address::Subnet(0), HostNumber::FIRST);
        port.hosts(&self.config).first().copied().unwrap_or(std::net::Ipv4Addr::LOCALHOST.into())
    }

    /// The API server's URL on the wire.
    pub(super) fn server(&self) -> String {
        api_url(self.control_plane_address(), control_plane::API_PORT)
    }

    fn write_files(&self, authority: &Authority, nodes: &[Node]) -> Result<(), LabError> {
        let root = self.folder.space_root(CONTROL_PLANE);
        let key = self.folder.pki().join("ca.key");
        control_plane::write_files(&root, authority, &key, &self.config, &self.control_plane_ports())?;
        let admin = authority.issue(&Subject::member("admin", "system:masters"))?;
        let endpoint = free_port()?;
        write(&self.folder.endpoint(), &endpoint)?;
        let inner = api_url(std::net::Ipv4Addr::LOCALHOST.into(), control_plane::API_PORT);
        let outer = api_url(endpoint.ip(), endpoint.port());
        for (path, server) in [(self.folder.inner_kubeconfig(), inner), (self.folder.kubeconfig(), outer)] {
            let text = kubeconfig(self.config.name.as_str(), &server, &authority.certificate(), "admin", &admin);
            write_private(&path, &text).map_err(LabError::io("write", path))?;
        }
        nodes.iter().try_for_each(|node| self.write_node_files(node, authority))
    }

    fn control_plane_arguments(&self, kind: Kind) -> Vec<String> {
        control_plane::arguments(kind, &self.config, self.control_plane_address())
    }

    fn start_control_plane(&self) -> Result<(), LabError> {
        for kind in [Kind::Etcd, Kind::KubeApiserver] {
            self.launch_in(CONTROL_PLANE, kind, self.control_plane_arguments(kind))?;
        }
        let netexec = format!("agnhost netexec --http-port={} --udp-port={}", Self::OUTSIDE_PORT, Self::OUTSIDE_PORT);
        self.launch_in(OUTSIDE, Kind::Netexec, netexec.split(' ').map(str::to_owned).collect())?;
        self.start_gateway()
    }

    fn start_gateway(&self) -> Result<(), LabError> {
        let space = self.space(CONTROL_PLANE)?;
        let path = |path: &Path| path.display().to_string();
        let arguments = vec![
            path(&command_path()?),
            "gateway".to_owned(),
            format!("--listen={}", self.endpoint()?),
            format!("--namespace={}", path(&space.namespace("net"))),
            format!("--kubeconfig={}", path(&self.folder.inner_kubeconfig())),
        ];
        self.launch(ComponentId::single(Kind::Gateway), Place::Host, arguments, &space)
    }

    /// Starts a program in all namespaces of a space.
    pub(super) fn launch_in(&self, space: &str, kind: Kind, arguments: Vec<String>) -> Result<(), LabError> {
        self.launch(ComponentId::on(space, kind), Place::Space, arguments, &self.space(space)?)
    }

    fn launch(&self, id: ComponentId, place: Place, arguments: Vec<String>, space: &Space) -> Result<(), LabError> {
        let log = self.folder.logs().join(format!("{}.log", id.file_name()));
        let launch = Launch { place, arguments, environment: environment(id.kind), log };
        Component::start(id, launch, space, &self.folder.records())?;
        Ok(())
    }

    fn wait_for_api(&self) -> Result<(), LabError> {
        let api = self.api()?;
        self.wait_on(&[Kind::Etcd, Kind::KubeApiserver], "the API server to be ready", API_LIMIT, || {
            Ok(match api.get("ask whether the API server is ready", "/readyz") {
                Ok(_) => Look::Found(()),
                Err(error) => Look::NotYet(error.to_string()),
            })
        })
    }
}

/// Memory matters more than a few percent of a core: three nodes share one machine.
fn environment(kind: Kind) -> Vec<(String, String)> {
    match kind {
        Kind::Gateway | Kind::Netexec => Vec::new(),
        _ => vec![("GOGC".to_owned(), "50".to_owned())],
    }
}

fn free_port() -> Result<SocketAddr, LabError> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = std::net::TcpListener::bind(any).map_err(LabError::io("listen on", "127.0.0.1"))?;
    listener.local_addr().map_err(LabError::io("listen on", "127.0.0.1"))
}
