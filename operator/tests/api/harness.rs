//! An API server of one's own: etcd and kube-apiserver in fresh namespaces, Towpath installed from `config/`, and the
//! operator's binary running with its own service account's rights.

use std::cell::RefCell;
use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Config};
use serde_json::json;
use tempfile::TempDir;
use towpath_crds::{AGENT, ClusterNetwork, NodeNetwork};
use towpath_e2e::binaries::Binaries;
use towpath_e2e::isolated::isolated;
use towpath_e2e::pki::{loopback_server, signing_key};
use towpath_e2e::progress::Progress;
use towpath_operator::lease::Leadership;

use super::servers::{client, config, start_api_server, start_etcd, write_kubeconfig};

/// Within which the API server is to answer.
const START: Duration = Duration::from_secs(240);
/// Within which whatever a test waits for is to happen: shorter than the time between two passes without a change, which
/// would bring about what a change should have.
pub const SOON: Duration = Duration::from_secs(25);
/// The same where no such pass would.
pub const LONG: Duration = Duration::from_secs(180);
/// How often a condition is looked at: not so often that looking keeps it from coming about.
const LOOKS: Duration = Duration::from_millis(10);
/// How much of one look counts as time in which the operator could work: in the rest the test itself had no processor.
const LOOK: Duration = Duration::from_millis(150);
/// For how long nothing is written of a network that rests: longer than counts of policies wait.
const REST: Duration = Duration::from_secs(6);

/// Runs a test with a cluster of its own.
pub fn with_cluster<F: Future<Output = ()>>(test: &str, body: impl FnOnce(Cluster) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let labs = folder.path().to_owned();
    let run = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async { body(Cluster::start().await).await });
    };
    isolated(test, &labs, run).unwrap();
}

/// Waits until `look` answers something, or fails with what it said last.
pub async fn wait_for<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> F,
) -> T {
    let mut patience = Patience::new(within);
    loop {
        match look().await {
            Ok(found) => return found,
            Err(last) => assert!(patience.lasts(), "{what} did not happen within {within:?}: {last}"),
        }
        tokio::time::sleep(LOOKS).await;
    }
}

/// Waits until this is who leads.
pub async fn wait_to_lead(leadership: &Leadership) {
    wait_for("leadership", LONG, || async { if leadership.holds() { Ok(()) } else { Err("follows".to_owned()) } })
        .await;
}

/// How long somebody who looks again and again may go on.
pub struct Patience {
    left: Duration,
    looked: Instant,
}

impl Patience {
    pub fn new(within: Duration) -> Self {
        Self { left: within, looked: Instant::now() }
    }

    /// Whether it lasts, after one more look.
    pub fn lasts(&mut self) -> bool {
        self.left = self.left.saturating_sub(self.looked.elapsed().min(LOOK));
        self.looked = Instant::now();
        !self.left.is_zero()
    }
}

/// An API server and what it needs.
pub struct Cluster {
    folder: TempDir,
    binaries: Binaries,
    _etcd: Child,
    api_server: Child,
    pub client: Client,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let binaries = Binaries::find(None, &Progress::quiet()).unwrap();
        run(Command::new("ip").args(["address", "add", "10.0.0.1/32", "dev", "lo"]));
        let identity = loopback_server().unwrap();
        let (private, public) = signing_key().unwrap();
        let files = [
            ("server.crt", &identity.certificate),
            ("server.key", &identity.key),
            ("sa.key", &private),
            ("sa.pub", &public),
        ];
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        std::fs::write(folder.path().join("tokens.csv"), "token,admin,1,\"system:masters\"\n").unwrap();
        let etcd = start_etcd(&binaries, folder.path());
        let api_server = start_api_server(&binaries, folder.path(), &[]);
        let client = client(&write_kubeconfig(folder.path(), "admin", &json!({}))).await;
        let cluster = Self { folder, binaries, _etcd: etcd, api_server, client };
        cluster.answers().await;
        cluster.kubectl(&["apply", "--server-side", "-k", &repository("config/overlays/lab")]);
        wait_for("the kinds", LONG, || async {
            let networks = Api::<ClusterNetwork>::all(cluster.client.clone());
            networks.list(&ListParams::default()).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
        cluster
    }

    async fn answers(&self) {
        wait_for("an answer of the API server", START, || async {
            // What an API server makes when it starts, each without waiting for the other.
            let ranges = Api::<ServiceCIDR>::all(self.client.clone());
            ranges.get("kubernetes").await.map_err(|error| error.to_string())?;
            let namespaces = Api::<Namespace>::all(self.client.clone());
            for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
                namespaces.get(name).await.map_err(|error| error.to_string())?;
            }
            Ok(())
        })
        .await;
    }

    /// Takes the API server away.
    pub fn stop_api_server(&mut self) {
        self.api_server.kill().unwrap();
        self.api_server.wait().unwrap();
    }

    /// Brings it back.
    pub async fn restart_api_server(&mut self) {
        self.restart_api_server_with(&[]).await;
    }

    /// Brings it back with more flags.
    pub async fn restart_api_server_with(&mut self, flags: &[&str]) {
        self.api_server = start_api_server(&self.binaries, self.folder.path(), flags);
        self.answers().await;
    }

    /// Runs kubectl; the error is what it printed.
    pub fn try_kubectl(&self, user: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(self.binaries.path("kubectl"));
        command.args(arguments).env("KUBECONFIG", self.folder.path().join(user));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// Applies a part of an object as its writers do.
    pub fn server_side_apply(&self, user: &str, object: &serde_json::Value, part: &str) -> Result<String, String> {
        let file = self.folder.path().join("object.json");
        std::fs::write(&file, object.to_string()).unwrap();
        let file = file.display().to_string();
        let mut arguments = vec!["apply", "--server-side", "--force-conflicts", "--validate=false", "-f", &file];
        arguments.extend(Some("--subresource=status").filter(|_| part == "status"));
        self.try_kubectl(user, &arguments)
    }

    /// Runs kubectl as an administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl("admin", arguments).unwrap()
    }

    /// A user to be, by what a kubeconfig says of it.
    pub fn user(&self, name: &str, impersonation: &serde_json::Value) {
        write_kubeconfig(self.folder.path(), name, impersonation);
    }

    /// Starts a replica of the operator, as the pod that it is in production.
    pub fn operator(&self, name: &str, port: u16) -> Operator {
        let account = json!({"as": "system:serviceaccount:towpath-system:towpath-operator"});
        let kubeconfig = write_kubeconfig(self.folder.path(), "operator", &account);
        let log = File::create(self.folder.path().join(format!("{name}.log"))).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_towpath-operator"))
            .args(["--port", &port.to_string(), "--control-port", &(port + 10).to_string()])
            .env("KUBECONFIG", kubeconfig)
            .env("POD_NAME", name)
            .env("POD_NAMESPACE", "towpath-system")
            .stderr(log)
            .spawn()
            .unwrap();
        Operator { process, port }
    }

    /// How a client with the operator's rights finds the API server.
    pub async fn operator_config(&self) -> Config {
        let account = json!({"as": "system:serviceaccount:towpath-system:towpath-operator"});
        config(&write_kubeconfig(self.folder.path(), "operator", &account)).await
    }

    /// A client with the operator's rights.
    pub async fn operator_client(&self) -> Client {
        Client::try_from(self.operator_config().await).unwrap()
    }

    /// Makes a Node with these addresses.
    pub async fn add_node(&self, name: &str, addresses: &[&str]) {
        let nodes = Api::<Node>::all(self.client.clone());
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        self.readdress(name, addresses).await;
    }

    /// Gives a Node other addresses.
    pub async fn readdress(&self, name: &str, addresses: &[&str]) {
        let list: Vec<_> = addresses.iter().map(|a| json!({"type": "InternalIP", "address": a})).collect();
        let patch = Patch::Merge(json!({"status": {"addresses": list}}));
        let nodes = Api::<Node>::all(self.client.clone());
        nodes.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Three nodes with addresses of both families.
    pub async fn three_nodes(&self) {
        for n in 1..=3 {
            self.add_node(&format!("n{n}"), &[&format!("172.30.0.{n}"), &format!("fd00:172:30::{n}")]).await;
        }
    }

    /// Applies a file of the repository.
    pub fn apply(&self, file: &str) -> String {
        self.kubectl(&["apply", "--server-side", "-f", &repository(file)])
    }

    /// What is said when a file of the repository is applied that must not be.
    pub fn apply_error(&self, file: &str) -> String {
        let file = repository(file);
        self.try_kubectl("admin", &["apply", "--server-side", "--force-conflicts", "-f", &file]).unwrap_err()
    }

    /// All parts of nodes, by name.
    pub async fn parts(&self) -> Vec<NodeNetwork> {
        Api::all(self.client.clone()).list(&ListParams::default()).await.unwrap().items
    }

    /// Waits for a part that is as it should be.
    pub async fn part(&self, name: &str, within: Duration, is: impl Fn(&NodeNetwork) -> bool) -> NodeNetwork {
        let api = Api::<NodeNetwork>::all(self.client.clone());
        wait_for(&format!("NodeNetwork {name} as it should be"), within, || async {
            let found = api.get_opt(name).await.map_err(|error| error.to_string())?;
            found.filter(&is).ok_or_else(|| "not yet".to_owned())
        })
        .await
    }

    /// Reports that a node has what it was told, as its agent would.
    pub async fn report(&self, name: &str) {
        let api = Api::<NodeNetwork>::all(self.client.clone());
        let part = api.get(name).await.unwrap();
        let generation = part.metadata.generation;
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "AsTold", "message": "", "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let status = json!({
            "apiVersion": "towpath.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": name},
            "status": {
                "observedGeneration": generation, "observedRevision": part.spec.revision, "transport": "Direct",
                "mtu": 1500, "podCIDRs": part.spec.pod_cidrs.join(","), "conditions": [ready],
            },
        });
        api.patch_status(name, &PatchParams::apply(AGENT), &Patch::Apply(status)).await.unwrap();
    }

    /// Waits until the network is written no more.
    pub async fn rests(&self) {
        let api = Api::<ClusterNetwork>::all(self.client.clone());
        let last = RefCell::new((None, Instant::now()));
        wait_for("a network that rests", LONG, || async {
            let version = api.get("default").await.map_err(|error| error.to_string())?.metadata.resource_version;
            let mut last = last.borrow_mut();
            if last.0 != version {
                *last = (version, Instant::now());
            }
            if last.1.elapsed() >= REST { Ok(()) } else { Err(format!("{last:?}")) }
        })
        .await;
    }

    /// Waits for the verdict and the words of a condition of the network.
    pub async fn condition(&self, type_: &str, status: &str, words: &str) {
        let api = Api::<ClusterNetwork>::all(self.client.clone());
        wait_for(&format!("{type_}={status}"), Duration::from_secs(60), || async {
            let network = api.get("default").await.map_err(|error| error.to_string())?;
            let generation = network.metadata.generation;
            let conditions = network.status.map(|status| status.conditions).unwrap_or_default();
            let found = conditions.iter().find(|c| c.type_ == type_);
            found
                .filter(|c| c.status == status && c.message.contains(words) && c.observed_generation == generation)
                .map(drop)
                .ok_or_else(|| format!("{found:?}"))
        })
        .await;
    }
}

/// A running replica; it ends with the test.
pub struct Operator {
    process: Child,
    port: u16,
}

impl Operator {
    /// What one of its metrics says.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics")?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// What it answers.
    pub fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Waits until it leads.
    pub async fn leads(&self, within: Duration) {
        wait_for("leadership", within, || async {
            self.metric("towpath_operator_leading").filter(|leads| *leads > 0.0).map(drop).ok_or("follows".to_owned())
        })
        .await;
    }

    /// How many passes ended well.
    pub fn passes(&self) -> f64 {
        self.metric("towpath_operator_passes_total{outcome=\"Done\"}").unwrap_or_default()
    }

    /// Whether the process is there.
    pub fn runs(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Ends it without notice.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Ends it as the kubelet would.
    pub fn terminate(mut self) {
        run(Command::new("kill").arg(self.process.id().to_string()));
        assert!(self.process.wait().unwrap().success());
    }
}

/// A path of the repository.
pub fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path).display().to_string()
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}
