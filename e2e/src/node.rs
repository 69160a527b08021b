//! What a node's programs are told: the files below its `/etc` and their command lines.

use std::{net::IpAddr, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    address::{HostNumber, Subnet},
    component::Kind,
    config::{LabConfig, NodeName},
    control_plane::dns_services,
    pki::{Authority, Identity, PkiError, Subject, kubeconfig, write_private},
    wire::Port,
};

/// Why a node's files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A certificate could not be made.
    #[error("node {node}: {source}")]
    Pki {
        /// The node.
        node: NodeName,
        /// What failed.
        source: PkiError,
    },
    /// A file could not be written.
    #[error("node {node}: write {path}: {source}")]
    Io {
        /// The node.
        node: NodeName,
        /// The file.
        path: String,
        /// What the kernel answered.
        source: std::io::Error,
    },
}

/// A node's identity: what stays when it restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its number among the lab's nodes, never given twice while it is there.
    pub ordinal: u8,
    /// Its subnet.
    pub subnet: Subnet,
    /// Its number in the subnet.
    pub host: HostNumber,
}

impl Node {
    /// The node of this ordinal; subnets are taken in turn.
    pub fn new(name: NodeName, ordinal: u8, config: &LabConfig) -> Self {
        let subnet = Subnet((ordinal - 1) % config.subnets);
        Self { name, ordinal, subnet, host: HostNumber::node(ordinal) }
    }

    /// Its place on the wire.
    pub fn port(&self) -> Port {
        Port::only(self.subnet, self.host)
    }

    /// Its addresses, the primary one first.
    pub fn addresses(&self, config: &LabConfig) -> Vec<IpAddr> {
        self.port().hosts(config)
    }
}

/// What a node needs to know of the rest of the lab.
pub struct Surroundings<'a> {
    /// The lab's parameters.
    pub config: &'a LabConfig,
    /// The authority that signs its certificates.
    pub authority: &'a Authority,
    /// The API server's URL on the wire.
    pub server: &'a str,
    /// The path of its cgroup, below which the kubelet makes those of pods.
    pub cgroup: &'a str,
}

/// How many pods a node takes: more than the usual 110, for scenarios that need them all on one node.
const MAX_PODS: u32 = 250;
const CA: &str = "/etc/kubernetes/pki/ca.crt";
/// The image of the process that holds a pod's namespaces.
pub const SANDBOX_IMAGE: &str = "registry.k8s.io/pause:3.10.2";

/// Where a kubelet finds pods that nobody but itself starts.
const STATIC_PODS: &str = "/etc/kubernetes/manifests";

/// Writes a node's configuration below `root`, the root of its space.
///
/// # Errors
/// The certificate or file that could not be made.
pub fn write_files(node: &Node, root: &Path, around: &Surroundings<'_>) -> Result<(), NodeError> {
    let Surroundings { config, authority, server, cgroup } = around;
    let pki = |source| NodeError::Pki { node: node.name.clone(), source };
    let user = format!("system:node:{}", node.name);
    let server_subject =
        Subject { dns: vec![node.name.to_string()], addresses: node.addresses(config), ..Subject::user(&user) };
    let serving = authority.issue(&server_subject).map_err(pki)?;
    let kubelet = authority.issue(&Subject::member(&user, "system:nodes")).map_err(pki)?;
    let proxy = authority.issue(&Subject::user("system:kube-proxy")).map_err(pki)?;
    let client = |user: &str, identity: &Identity| {
        kubeconfig(config.name.as_str(), server, &authority.certificate(), user, identity)
    };
    let addresses =
        node.addresses(config).iter().map(|address| format!("{address} {}\n", node.name)).collect::<Vec<_>>().concat();
    let files = [
        ("etc/kubernetes/pki/ca.crt", authority.certificate()),
        ("etc/kubernetes/pki/kubelet.crt", serving.certificate),
        ("etc/kubernetes/pki/kubelet.key", serving.key),
        ("etc/kubernetes/kubelet.conf", client(&user, &kubelet)),
        ("etc/kubernetes/kube-proxy.conf", client("system:kube-proxy", &proxy)),
        ("etc/kubernetes/kubelet.yaml", format!("{:#}\n", kubelet_configuration(config, cgroup))),
        ("etc/kubernetes/kube-proxy.yaml", format!("{:#}\n", proxy_configuration(node, config))),
        ("etc/containerd/config.toml", containerd_configuration()),
        ("etc/hostname", format!("{}\n", node.name)),
        ("etc/hosts", format!("127.0.0.1 localhost\n::1 localhost\n{addresses}")),
        ("etc/resolv.conf", "# There is no resolver outside of the cluster.\n".to_owned()),
    ];
    let folders =
        ["etc/cni/net.d", "opt/cni/bin", "var/lib/kubelet", "var/lib/containerd", "var/log/pods", "var/log/containers"];
    for folder in folders.into_iter().chain([STATIC_PODS.trim_start_matches('/')]) {
        let path = root.join(folder);
        std::fs::create_dir_all(&path).map_err(io(node, &path))?;
    }
    for (name, text) in files {
        let path = root.join(name);
        let folder = path.parent().unwrap_or(root);
        std::fs::create_dir_all(folder).map_err(io(node, folder))?;
        // Pods' programs read hosts and resolv.conf through the kubelet; only keys need hiding.
        if name.starts_with("etc/kubernetes") { write_private(&path, &text) } else { std::fs::write(&path, text) }
            .map_err(io(node, &path))?;
    }
    Ok(())
}

fn io(node: &Node, path: &Path) -> impl FnOnce(std::io::Error) -> NodeError + use<> {
    let (node, path) = (node.name.clone(), path.display().to_string());
    move |source| NodeError::Io { node, path, source }
}

/// What containerd reads on a node: version 3 of its configuration.
pub fn containerd_configuration() -> String {
    CONTAINERD.replace("SANDBOX_IMAGE", SANDBOX_IMAGE)
}

/// Scores of the OOM killer cannot be lowered without `CAP_SYS_RESOURCE`.
const CONTAINERD: &str = r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "SANDBOX_IMAGE"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
disable_apparmor = true

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "/usr/sbin/runc"

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/opt/cni/bin"]
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.nri.v1.nri"]
disable = true
"#;

/// `KubeletConfiguration`, `kubelet.config.k8s.io/v1beta1`. Nothing is evicted or limited: the machine's disk and memory
/// are shared with everything else on it.
fn kubelet_configuration(config: &LabConfig, cgroup: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": CA}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": "/etc/kubernetes/pki/kubelet.crt",
        "tlsPrivateKeyFile": "/etc/kubernetes/pki/kubelet.key",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "clusterDNS": dns_services(config),
        "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": false,
        "evictionHard": {
            "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "imagefs.available": "0%", "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "oomScoreAdj": 0,
        "maxPods": MAX_PODS,
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "staticPodPath": STATIC_PODS,
    })
}

/// `KubeProxyConfiguration`, `kubeproxy.config.k8s.io/v1alpha1`. The zeros keep it from the host's conntrack limits,
/// which no namespace may write.
fn proxy_configuration(node: &Node, config: &LabConfig) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": node.name,
        "clientConnection": {"kubeconfig": "/etc/kubernetes/kube-proxy.conf"},
        "detectLocalMode": "InterfaceNamePrefix",
        "detectLocal": {"interfaceNamePrefix": config.pod_link_prefix},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}

/// The command line of a node's program.
pub fn arguments(kind: Kind, node: &Node, config: &LabConfig) -> Vec<String> {
    let addresses = node.addresses(config).iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    let flags = match kind {
        Kind::Containerd => vec!["--config=/etc/containerd/config.toml".to_owned(), "--log-level=warn".to_owned()],
        Kind::Kubelet => vec![
            "--config=/etc/kubernetes/kubelet.yaml".to_owned(),
            "--kubeconfig=/etc/kubernetes/kubelet.conf".to_owned(),
            format!("--hostname-override={}", node.name),
            format!("--node-ip={addresses}"),
        ],
        Kind::KubeProxy => vec!["--config=/etc/kubernetes/kube-proxy.yaml".to_owned()],
        _ => Vec::new(),
    };
    std::iter::once(kind.name().to_owned()).chain(flags).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Wire;

    fn config(wire: Wire) -> LabConfig {
        LabConfig { wire, subnets: 2, ..LabConfig::new("t".parse().unwrap()) }.validated().unwrap()
    }

    #[test]
    fn nodes_take_subnets_in_turn() {
        let config = config(Wire::Ipv4);
        let subnets = (1..=4).map(|ordinal| Node::new(NodeName::numbered(ordinal), ordinal, &config).subnet.0);
        assert_eq!(subnets.collect::<Vec<_>>(), [0, 1, 0, 1]);
    }

    #[test]
    fn a_kubelet_is_told_the_addresses_of_both_families() {
        let config = config(Wire::Dual);
        let node = Node::new(NodeName::numbered(2), 2, &config);
        let flags = arguments(Kind::Kubelet, &node, &config);
        assert!(flags.contains(&"--node-ip=172.30.1.12,fd00:172:30:1::c".to_owned()), "{flags:?}");
    }

    #[test]
    fn a_node_knows_its_cgroup_its_dns_and_its_pods_links() {
        let config = config(Wire::Ipv6);
        let node = Node::new(NodeName::numbered(1), 1, &config);
        let kubelet = kubelet_configuration(&config, "/towpath-lab-t/n1");
        assert_eq!(kubelet["cgroupRoot"], "/towpath-lab-t/n1");
        assert_eq!(kubelet["clusterDNS"], json!(["fd00:10:96::a"]));
        assert_eq!(proxy_configuration(&node, &config)["detectLocal"]["interfaceNamePrefix"], "tow");
        assert!(containerd_configuration().contains(SANDBOX_IMAGE));
    }
}
