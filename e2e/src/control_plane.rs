//! What the control plane's programs are told.
//!
//! The files are where kubeadm puts them, below `/etc/kubernetes` of the control plane's space. That space has a leg
//! in each subnet and is no node: a node that restarts never takes the API server with it. The API server reaches
//! pods (proxies, webhooks) over routes that the gateway keeps.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::{
    address::nth,
    component::Kind,
    config::LabConfig,
    pki::{Authority, PkiError, Subject, kubeconfig, signing_key, write_private},
    wire::{CONTROL_PLANE, Port},
};

/// Why the control plane's files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A file could not be written.
    #[error("write {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the kernel answered.
        source: std::io::Error,
    },
}

/// The port of the API server on the wire.
pub const API_PORT: u16 = 6443;
const PKI: &str = "/etc/kubernetes/pki";
const AUDIT_POLICY: &str = "/etc/kubernetes/audit.yaml";
const AUDIT_LOG: &str = "/var/log/kubernetes/audit.log";

/// The URL of the API server, as components reach it from this address.
pub fn api_url(address: IpAddr, port: u16) -> String {
    format!("https://{}", std::net::SocketAddr::new(address, port))
}

/// The address of the `kubernetes` Service, the first of the first range.
pub fn api_service(config: &LabConfig) -> Option<IpAddr> {
    config.service_cidrs.first().map(|cidr| nth(cidr.network(), 1))
}

/// The address of the cluster's DNS, the tenth of each range.
pub fn dns_services(config: &LabConfig) -> Vec<IpAddr> {
    config.service_cidrs.iter().map(|cidr| nth(cidr.network(), 10)).collect()
}

/// Writes certificates and kubeconfigs below `root`, the root of the control plane's space.
///
/// # Errors
/// The certificate or file that could not be made.
pub fn write_files(
    root: &Path,
    authority: &Authority,
    authority_key: &Path,
    config: &LabConfig,
    ports: &[Port],
) -> Result<(), ControlPlaneError> {
    let pki = root.join("etc/kubernetes/pki");
    std::fs::create_dir_all(&pki).map_err(io(&pki))?;
    let write = |name: &str, text: &str| {
        let path = pki.join(name);
        write_private(&path, text).map_err(io(&path))
    };
    write("ca.crt", &authority.certificate())?;
    write("ca.key", &std::fs::read_to_string(authority_key).map_err(io(authority_key))?)?;
    let audit = root.join(AUDIT_POLICY.trim_start_matches('/'));
    std::fs::write(&audit, audit_policy(&config.audited)).map_err(io(&audit))?;
    let (private, public) = signing_key()?;
    write("sa.key", &private)?;
    write("sa.pub", &public)?;
    let identities = [
        ("apiserver", server_subject(config, ports)),
        ("kubelet-client", Subject::member("kube-apiserver", "system:masters")),
        ("front-proxy-client", Subject::user("front-proxy-client")),
    ];
    for (name, subject) in identities {
        let identity = authority.issue(&subject)?;
        write(&format!("{name}.crt"), &identity.certificate)?;
        write(&format!("{name}.key"), &identity.key)?;
    }
    for kind in [Kind::KubeControllerManager, Kind::KubeScheduler] {
        let user = format!("system:{}", kind.name());
        let identity = authority.issue(&Subject::user(&user))?;
        let text =
            kubeconfig(config.name.as_str(), "https://127.0.0.1:6443", &authority.certificate(), &user, &identity);
        let path = root.join("etc/kubernetes").join(format!("{}.conf", kind.name()));
        write_private(&path, &text).map_err(io(&path))?;
    }
    Ok(())
}

/// The API server's audit log, below the root of the control plane's space.
pub fn audit_log(root: &Path) -> PathBuf {
    root.join(AUDIT_LOG.trim_start_matches('/'))
}

/// What is written into it: each request of the audited users, without bodies (`audit.k8s.io/v1`).
fn audit_policy(users: &[String]) -> String {
    let rules = [
        serde_json::json!({"level": "Metadata", "users": users, "omitStages": ["RequestReceived"]}),
        serde_json::json!({"level": "None"}),
    ];
    serde_json::json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}).to_string()
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ControlPlaneError + use<> {
    let path = path.display().to_string();
    move |source| ControlPlaneError::Io { path, source }
}

fn server_subject(config: &LabConfig, ports: &[Port]) -> Subject {
    let names = [
        "localhost",
        CONTROL_PLANE,
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
    let services = config.service_cidrs.iter().map(|cidr| nth(cidr.network(), 1));
    let own = ports.iter().flat_map(|port| port.hosts(config));
    Subject {
        dns: names.map(str::to_owned).to_vec(),
        addresses: loopback.into_iter().chain(services).chain(own).collect(),
        ..Subject::user("kube-apiserver")
    }
}

/// The command line of a program of the control plane.
pub fn arguments(kind: Kind, config: &LabConfig, address: IpAddr) -> Vec<String> {
    let flags = match kind {
        Kind::Etcd => etcd(),
        Kind::KubeApiserver => api_server(config, address),
        Kind::KubeControllerManager => controller_manager(config),
        Kind::KubeScheduler => scheduler(),
        _ => Vec::new(),
    };
    std::iter::once(kind.name().to_owned()).chain(flags).collect()
}

fn strings(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

fn etcd() -> Vec<String> {
    strings(&[
        "--data-dir=/var/lib/etcd",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--snapshot-count=10000",
        "--log-level=warn",
    ])
}

fn api_server(config: &LabConfig, address: IpAddr) -> Vec<String> {
    let mut flags = strings(&[
        "--etcd-servers=http://127.0.0.1:2379",
        "--secure-port=6443",
        "--allow-privileged",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        // Webhooks and aggregated servers are reached at their pods; no kube-proxy runs here.
        "--enable-aggregator-routing",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        "--profiling=false",
    ]);
    let files = [
        ("client-ca-file", "ca.crt"),
        ("requestheader-client-ca-file", "ca.crt"),
        ("kubelet-certificate-authority", "ca.crt"),
        ("tls-cert-file", "apiserver.crt"),
        ("tls-private-key-file", "apiserver.key"),
        ("kubelet-client-certificate", "kubelet-client.crt"),
        ("kubelet-client-key", "kubelet-client.key"),
        ("proxy-client-cert-file", "front-proxy-client.crt"),
        ("proxy-client-key-file", "front-proxy-client.key"),
        ("service-account-key-file", "sa.pub"),
        ("service-account-signing-key-file", "sa.key"),
    ];
    flags.extend(files.map(|(flag, file)| format!("--{flag}={PKI}/{file}")));
    flags.push(format!("--advertise-address={address}"));
    flags.push(format!("--service-cluster-ip-range={}", joined(&config.service_cidrs)));
    if !config.audited.is_empty() {
        // In MB; what is above is moved into another file.
        flags.extend([format!("--audit-policy-file={AUDIT_POLICY}"), format!("--audit-log-path={AUDIT_LOG}")]);
        flags.push("--audit-log-maxsize=2000".to_owned());
    }
    flags
}

fn controller_manager(config: &LabConfig) -> Vec<String> {
    let mut flags = strings(&[
        "--kubeconfig=/etc/kubernetes/kube-controller-manager.conf",
        "--authentication-kubeconfig=/etc/kubernetes/kube-controller-manager.conf",
        "--authorization-kubeconfig=/etc/kubernetes/kube-controller-manager.conf",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    ]);
    let files = [
        ("root-ca-file", "ca.crt"),
        ("cluster-signing-cert-file", "ca.crt"),
        ("cluster-signing-key-file", "ca.key"),
        ("service-account-private-key-file", "sa.key"),
    ];
    flags.extend(files.map(|(flag, file)| format!("--{flag}={PKI}/{file}")));
    flags.push(format!("--cluster-name={}", config.name));
    if !config.pod_cidrs.is_empty() {
        flags.push("--allocate-node-cidrs".to_owned());
        flags.push(format!("--cluster-cidr={}", joined(&config.pod_cidrs)));
    }
    flags
}

fn scheduler() -> Vec<String> {
    strings(&[
        "--kubeconfig=/etc/kubernetes/kube-scheduler.conf",
        "--authentication-kubeconfig=/etc/kubernetes/kube-scheduler.conf",
        "--authorization-kubeconfig=/etc/kubernetes/kube-scheduler.conf",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pods: &[&str]) -> LabConfig {
        let pod_cidrs = pods.iter().map(|cidr| cidr.parse().unwrap()).collect();
        LabConfig { pod_cidrs, ..LabConfig::new("t".parse().unwrap()) }.validated().unwrap()
    }

    #[test]
    fn pod_cidrs_are_allocated_only_when_asked_for() {
        let flags = |config: &LabConfig| arguments(Kind::KubeControllerManager, config, [172, 30, 0, 2].into());
        assert!(!flags(&config(&[])).iter().any(|flag| flag.contains("allocate-node-cidrs")));
        assert!(flags(&config(&["10.244.0.0/16"])).contains(&"--cluster-cidr=10.244.0.0/16".to_owned()));
    }

    #[test]
    fn well_known_services_have_their_usual_places() {
        let config = config(&[]);
        assert_eq!(api_service(&config).unwrap().to_string(), "10.96.0.1");
        assert_eq!(dns_services(&config)[0].to_string(), "10.96.0.10");
        assert_eq!(api_url("fd00::1".parse().unwrap(), 6443), "https://[fd00::1]:6443");
    }

    #[test]
    fn the_server_answers_for_every_name_and_address_that_it_is_reached_by() {
        let subject =
            server_subject(&config(&[]), &[Port::only(crate::address::Subnet(0), crate::address::HostNumber::FIRST)]);
        for address in ["127.0.0.1", "::1", "10.96.0.1", "172.30.0.2"] {
            assert!(subject.addresses.contains(&address.parse().unwrap()), "{address}");
        }
        assert!(subject.dns.iter().any(|name| name == "kubernetes.default.svc"));
    }
}
