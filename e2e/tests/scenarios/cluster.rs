//! A lab with Towpath installed in it as a user installs it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use towpath_e2e::wait::Look;
use towpath_e2e::{Lab, LabConfig, Wire};
use towpath_kernel::netns::Namespace;

use crate::audit;

/// What upstream's specs run in pods; it has a shell, ping and curl around it.
pub const POD_IMAGE: &str = "registry.k8s.io/e2e-test-images/agnhost:2.63.0";
/// The image that `config/overlays/lab` names.
const IMAGE: &str = "localhost/towpath:dev";
/// One with the same programs and one file more.
pub const NEXT_IMAGE: &str = "localhost/towpath:next";

/// The top of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What Towpath's image is made of.
fn image_folder() -> PathBuf {
    env::var("TOWPATH_IMAGE_FOLDER").expect("TOWPATH_IMAGE_FOLDER: `make test` sets it").into()
}

/// A lab, and Towpath in it.
pub struct Cluster {
    /// The lab; it ends with this value.
    pub lab: Lab,
}

impl Cluster {
    /// A lab of three nodes on a wire of both families, without a pod network; Towpath's image is loaded.
    pub fn bare(name: &str) -> Self {
        Self::bare_with(name, |_| {})
    }

    /// The same with other parameters.
    pub fn bare_with(name: &str, change: impl FnOnce(&mut LabConfig)) -> Self {
        let mut config = LabConfig::new(name.parse().unwrap());
        config.wire = Wire::Dual;
        config.audited = audit::users();
        change(&mut config);
        let lab = Lab::up(config).unwrap_or_else(|error| panic!("{error}"));
        let folder = image_folder();
        lab.build_and_load(&folder.join("Containerfile"), &folder, IMAGE).unwrap_or_else(|error| panic!("{error}"));
        Self { lab }
    }

    /// Gives the nodes [`NEXT_IMAGE`].
    pub fn load_next_image(&self) {
        let (folder, more) = (image_folder(), tempfile::NamedTempFile::new().unwrap());
        let containerfile = std::fs::read_to_string(folder.join("Containerfile")).unwrap();
        std::fs::write(&more, format!("{containerfile}\nCOPY Containerfile /next\n")).unwrap();
        self.lab.build_and_load(more.path(), &folder, NEXT_IMAGE).unwrap_or_else(|error| panic!("{error}"));
    }

    /// A cluster with the network of `config/samples/kindnet.yaml`, ready, and with all of its own pods: nothing comes to its
    /// nodes any more but by the test.
    pub fn up(name: &str) -> Self {
        let cluster = Self::bare(name);
        cluster.install();
        cluster.declare("config/samples/kindnet.yaml");
        cluster.wait_ready();
        cluster.kubectl("-n kube-system rollout status deployment coredns --timeout=150s");
        cluster
    }

    /// Installs Towpath.
    pub fn install(&self) {
        self.kubectl(&format!("apply --server-side -k {}", repository().join("config/overlays/lab").display()));
        self.kubectl("wait --for=condition=Established crd/clusternetworks.towpath.dev crd/nodenetworks.towpath.dev --timeout=120s");
    }

    /// Declares a network from a file of the repository.
    pub fn declare(&self, file: &str) {
        self.kubectl(&format!("apply --server-side --force-conflicts -f {}", repository().join(file).display()));
    }

    /// Waits until the network and every node are ready. After an outage of the API server, a kubelet sees its Node as it
    /// was before until it lists it anew, for which it waits up to 30 s, and only then finds that it has to say Ready.
    pub fn wait_ready(&self) {
        self.kubectl("wait --for=condition=Ready clusternetwork/default --timeout=300s");
        self.kubectl("wait --for=condition=Ready node --all --timeout=300s");
    }

    /// Runs `kubectl` with words that have no blanks in them.
    #[track_caller]
    pub fn kubectl(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.lab.kubectl(&words).unwrap_or_else(|error| panic!("{error}\n{}", self.state()))
    }

    /// What somebody would look at first when something is wrong.
    fn state(&self) -> String {
        let looks = [
            "get cnet,nnet,nodes -o wide",
            "get pods -A -o wide",
            "-n towpath-system logs -l app.kubernetes.io/name=towpath-agent --tail=15 --prefix",
            "-n towpath-system logs -l app.kubernetes.io/name=towpath-operator --tail=15 --prefix",
        ];
        looks
            .map(|look| {
                let words: Vec<&str> = look.split_whitespace().collect();
                self.lab.kubectl(&words).unwrap_or_else(|error| error.to_string())
            })
            .join("\n")
    }

    /// Applies manifests.
    #[track_caller]
    pub fn apply(&self, manifests: &str) {
        self.lab.apply(manifests).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Runs a command on a node; the words have no blanks in them.
    #[track_caller]
    pub fn on(&self, node: &str, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = self.lab.node(node).and_then(|n| n.exec(&words)).unwrap_or_else(|error| panic!("{error}"));
        assert!(output.status.success(), "{node}: {line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A pod on a node that answers HTTP on port 8080, ready.
    #[track_caller]
    pub fn pod(&self, name: &str, node: &str) -> Pod {
        self.start_pod(name, node, "");
        self.kubectl(&format!("wait --for=condition=Ready pod/{name} --timeout=150s"));
        self.pod_seen(name)
    }

    /// Starts a pod on a node; `port` is more of its port's YAML.
    pub fn start_pod(&self, name: &str, node: &str, port: &str) {
        self.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{\
             nodeName: {node}, terminationGracePeriodSeconds: 1, containers: [{{name: netexec, image: {POD_IMAGE}, \
             args: [netexec, --http-port=8080], ports: [{{containerPort: 8080{port}}}]}}]}}}}"
        ));
    }

    /// A pod as the API has it.
    pub fn pod_seen(&self, name: &str) -> Pod {
        let line = format!("get pod {name} -o jsonpath={{.spec.nodeName}}|{{.status.podIPs[*].ip}}");
        let seen = self.kubectl(&line);
        let (node, addresses) = seen.split_once('|').unwrap();
        let addresses = addresses.split_whitespace().map(|a| a.parse().unwrap()).collect();
        Pod { name: name.to_owned(), node: node.to_owned(), addresses }
    }

    /// Runs a command in a pod and returns what it printed; it is tried again for a moment where it fails.
    #[track_caller]
    pub fn in_pod(&self, pod: &str, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        eventually(&format!("{pod}: {line}"), Duration::from_secs(120), || {
            let output = self.lab.pod_exec("default", pod, &words).unwrap();
            if output.success { Ok(output.stdout) } else { Err(output.stderr + &output.stdout) }
        })
    }

    /// One field of an object.
    pub fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&format!("get {object} -o jsonpath={{{path}}}"))
    }

    /// Waits for what the lab's own way of waiting knows to end early.
    pub fn wait_for(&self, what: &str, limit: Duration, mut look: impl FnMut() -> Result<(), String>) {
        let found = self.lab.wait_for(what, limit, || {
            Ok(match look() {
                Ok(()) => Look::Found(()),
                Err(instead) => Look::NotYet(instead),
            })
        });
        found.unwrap_or_else(|error| panic!("{error}\n{}", self.state()));
    }

    /// Where the runtime of a node keeps the namespaces of its pods, from the moment on when it made them.
    pub fn namespaces_on(&self, node: &str) -> Vec<PathBuf> {
        let folder = self.pid_of(node, "containerd").and_then(|pid| namespaces_of(pid).read_dir().ok());
        folder.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    }

    /// The namespace of a pod: the one on its node that has its address. Other labs have pods of the same addresses.
    #[track_caller]
    pub fn namespace(&self, pod: &Pod) -> Namespace {
        let address = pod.addresses[0].to_string();
        let has = |namespace: &Namespace| addresses_in(namespace).contains(&address);
        let mut all = self.namespaces_on(&pod.node).into_iter().filter_map(|path| Namespace::open(path).ok());
        all.find(has).unwrap_or_else(|| panic!("nobody on {} has {address}, which {} has", pod.node, pod.name))
    }

    /// The process ids of the agents' containers, with their nodes.
    pub fn agent_pid(&self, node: &str) -> Option<u32> {
        self.pid_of(node, "towpath-agent")
    }

    /// The process id of a program in the network namespace of a node.
    pub fn pid_of(&self, node: &str, program: &str) -> Option<u32> {
        let here = std::fs::metadata(self.lab.node(node).ok()?.netns_path().ok()?).ok()?;
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
            use std::os::unix::fs::MetadataExt as _;
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let there = std::fs::metadata(format!("/proc/{pid}/ns/net"));
            // The kernel keeps 15 characters of a name (`TASK_COMM_LEN`).
            name.trim_end() == &program[..program.len().min(15)]
                && there.is_ok_and(|there| (there.dev(), there.ino()) == (here.dev(), here.ino()))
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        audit::keep(&self.lab);
    }
}

/// Where a runtime that is this process keeps the namespaces of pods.
pub fn namespaces_of(runtime: u32) -> PathBuf {
    format!("/proc/{runtime}/root/run/netns").into()
}

/// The addresses of IPv4 that a namespace has, but for the loopback's.
pub fn addresses_in(namespace: &Namespace) -> Vec<String> {
    let table = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap_or_default());
    let table = table.unwrap_or_default();
    let lines: Vec<&str> = table.lines().map(str::trim).collect();
    let local = lines.windows(2).filter(|pair| pair[1] == "/32 host LOCAL");
    let mut all: Vec<String> = local.filter_map(|pair| pair[0].strip_prefix("|-- ")).map(str::to_owned).collect();
    all.retain(|address| !address.starts_with("127."));
    all
}

/// Ends a process that this test knows by its id; one that ends by itself meanwhile has ended too.
pub fn kill(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success() || !Path::new(&format!("/proc/{pid}")).exists(), "process {pid} cannot be ended");
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub node: String,
    pub addresses: Vec<std::net::IpAddr>,
}

/// An address as it stands in a URL.
pub fn in_url(address: std::net::IpAddr) -> String {
    match address {
        std::net::IpAddr::V4(a) => a.to_string(),
        std::net::IpAddr::V6(a) => format!("[{a}]"),
    }
}

/// Tries until it succeeds, or an attempt that began too late does not.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        let begun = Instant::now();
        match attempt() {
            Ok(value) => return value,
            Err(error) => assert!(begun < deadline, "{what}: not within {limit:?}: {error}"),
        }
    }
}
