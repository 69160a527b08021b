//! Somebody has taken over an agent: its node, its tokens. What they can do with them is write the status of their own
//! node's `NodeNetwork`; all else is refused.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use towpath_control::message::{FromAgent, Hello, Purpose, VERSION, write_from_agent};
use towpath_control::update::Holdings;

use crate::cluster::Cluster;

const SYSTEM: &str = "/api/v1/namespaces/towpath-system";
const NETWORKS: &str = "/apis/towpath.dev/v1alpha1/nodenetworks";
const CLUSTER: &str = "/apis/towpath.dev/v1alpha1/clusternetworks";
const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1";
const OWN: &str = "nodenetwork-own-node.towpath.dev";
const STREAM: &str = "/towpath.control.v1.Control/Follow";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const JSON: &str = "application/json";

/// What somebody has who has a node and its agent.
struct Attacker<'a> {
    cluster: &'a Cluster,
    server: String,
    /// The agent's token for the API server.
    api: String,
    /// Its token for the operator.
    control: String,
}

/// One request to the API server.
struct Attempt {
    what: &'static str,
    method: &'static str,
    path: String,
    content: &'static str,
    body: String,
    header: &'static str,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    code: u16,
    text: String,
}

impl<'a> Attacker<'a> {
    fn on_n1(cluster: &'a Cluster) -> Self {
        let slice = "-n default get endpointslice kubernetes -o jsonpath={.endpoints[0].addresses[0]}:{.ports[0].port}";
        let server = format!("https://{}", cluster.kubectl(slice));
        let agent =
            "-n towpath-system get pod -l app.kubernetes.io/name=towpath-agent --field-selector=spec.nodeName=n1";
        let uid = cluster.kubectl(&format!("{agent} -o jsonpath={{.items[0].metadata.uid}}"));
        let token = |volume: &str| {
            cluster.on("n1", &format!("cat /var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~projected/{volume}/token"))
        };
        Self { server, api: token("api-token"), control: token("control-token"), cluster }
    }

    /// Asks from the network of the node, where the attacker is.
    fn curl(&self, words: &[&str]) -> Answer {
        let network = self.cluster.lab.node("n1").and_then(|node| node.netns_path()).unwrap();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", network.display())).args(["curl", "--silent", "--show-error", "--insecure"]);
        let output = command.args(["--max-time", "10", "--write-out", "\n%{http_code}"]).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        let (text, code) = said.rsplit_once('\n').unwrap();
        Answer { code: code.parse().unwrap(), text: text.to_owned() }
    }

    fn ask(&self, attempt: &Attempt) -> Answer {
        let (token, content) =
            (format!("Authorization: Bearer {}", self.api), format!("Content-Type: {}", attempt.content));
        let url = format!("{}{}", self.server, attempt.path);
        let mut words = vec!["--request", attempt.method, "--header", &token, "--header", &content];
        if !attempt.header.is_empty() {
            words.extend(["--header", attempt.header]);
        }
        if !attempt.body.is_empty() {
            words.extend(["--data", &attempt.body]);
        }
        words.push(&url);
        self.curl(&words)
    }

    /// Calls the operator, and says by the first message that it is the agent of a node, where one is given; the answer has the
    /// headers and trailers of the call as its text. Whose token is refused is not listened to: curl takes an answer that
    /// comes before it has sent all for an error.
    fn follow(&self, token: &str, node: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("message");
        std::fs::write(&file, node.map(hello).unwrap_or_default()).unwrap();
        let (body, token) = (format!("@{}", file.display()), format!("Authorization: Bearer {token}"));
        let operator = "-n towpath-system get pod -l app.kubernetes.io/name=towpath-operator";
        let address = self.cluster.kubectl(&format!("{operator} -o jsonpath={{.items[0].status.podIP}}"));
        let url = format!("https://{address}:9472{STREAM}");
        let words = [
            "--http2",
            "--dump-header",
            "-",
            "--output",
            "/dev/null",
            "--header",
            "Content-Type: application/grpc",
            "--header",
            "TE: trailers",
            "--header",
            &token,
            "--data-binary",
            &body,
            &url,
        ];
        self.curl(&words).text
    }
}

/// The first message of an agent, as gRPC frames it.
fn hello(node: &str) -> Vec<u8> {
    let hello = Hello {
        node: node.into(),
        version: VERSION,
        holdings: Holdings::default(),
        attached: Vec::new(),
        purpose: Purpose::Follow,
    };
    let message = write_from_agent(&FromAgent::Hello(Box::new(hello)));
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), &message].concat()
}

fn attempt(what: &'static str, method: &'static str, path: impl Into<String>) -> Attempt {
    Attempt { what, method, path: path.into(), content: JSON, body: String::new(), header: "" }
}

impl Attempt {
    fn with(self, content: &'static str, body: impl Into<String>) -> Self {
        Self { content, body: body.into(), ..self }
    }

    fn header(self, header: &'static str) -> Self {
        Self { header, ..self }
    }
}

const MTU: &str = r#"{"status":{"mtu":1300}}"#;

/// Everything about the parts of nodes, and the network.
fn on_networks() -> Vec<Attempt> {
    let mtu = r#"{"spec":{"mtu":1300}}"#;
    let applied = |part: &str| {
        format!(
            r#"{{"apiVersion":"towpath.dev/v1alpha1","kind":"NodeNetwork","metadata":{{"name":"n2"}},"{part}":{{"mtu":1300}}}}"#
        )
    };
    let forced = "?fieldManager=towpath-agent&force=true";
    let made = r#"{"apiVersion":"towpath.dev/v1alpha1","kind":"NodeNetwork","metadata":{"name":"n9"},"spec":{"revision":"0","podCIDRs":[]}}"#;
    vec![
        attempt("patch the status of another node", "PATCH", format!("{NETWORKS}/n2/status")).with(MERGE, MTU),
        attempt("apply the status of another node", "PATCH", format!("{NETWORKS}/n2/status{forced}"))
            .with(APPLY, applied("status")),
        attempt("replace the status of another node", "PUT", format!("{NETWORKS}/n2/status"))
            .with(JSON, applied("status")),
        attempt("patch the spec of the own node", "PATCH", format!("{NETWORKS}/n1")).with(MERGE, mtu),
        attempt("patch the spec of another node", "PATCH", format!("{NETWORKS}/n2")).with(MERGE, mtu),
        attempt("apply the spec of another node", "PATCH", format!("{NETWORKS}/n2{forced}"))
            .with(APPLY, applied("spec")),
        attempt("delete the own NodeNetwork", "DELETE", format!("{NETWORKS}/n1")),
        attempt("delete every NodeNetwork", "DELETE", NETWORKS),
        attempt("make a NodeNetwork", "POST", NETWORKS).with(JSON, made),
        attempt("patch the ClusterNetwork", "PATCH", format!("{CLUSTER}/default")).with(MERGE, mtu),
        attempt("patch its status", "PATCH", format!("{CLUSTER}/default/status")).with(MERGE, MTU),
        attempt("delete the ClusterNetwork", "DELETE", format!("{CLUSTER}/default")),
    ]
}

/// Everything that gives more rights, or those of others.
fn on_rights(operator: &str) -> Vec<Attempt> {
    let request = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}"#;
    let binding = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"mine"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"ServiceAccount","name":"towpath-agent","namespace":"towpath-system"}]}"#;
    let rules = r#"{"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}"#;
    vec![
        attempt(
            "read the key that signs the operator's certificates",
            "GET",
            format!("{SYSTEM}/secrets/towpath-control-ca"),
        ),
        attempt("list the secrets of its namespace", "GET", format!("{SYSTEM}/secrets")),
        attempt("list all secrets", "GET", "/api/v1/secrets"),
        attempt("have a token of the operator", "POST", format!("{SYSTEM}/serviceaccounts/towpath-operator/token"))
            .with(JSON, request),
        attempt(
            "have a token of the agents that names no node",
            "POST",
            format!("{SYSTEM}/serviceaccounts/towpath-agent/token"),
        )
        .with(JSON, request),
        attempt("have a token of kube-system", "POST", "/api/v1/namespaces/kube-system/serviceaccounts/default/token")
            .with(JSON, request),
        attempt("bind itself to cluster-admin", "POST", format!("{ROLES}/clusterrolebindings")).with(JSON, binding),
        attempt("widen its own role", "PATCH", format!("{ROLES}/clusterroles/towpath-agent")).with(MERGE, rules),
        attempt("act as an administrator", "GET", "/api/v1/nodes").header("Impersonate-User: kubernetes-admin"),
        attempt("remove what confines it", "DELETE", format!("{ADMISSION}/validatingadmissionpolicybindings/{OWN}")),
        attempt("weaken what confines it", "PATCH", format!("{ADMISSION}/validatingadmissionpolicies/{OWN}"))
            .with(MERGE, r#"{"spec":{"failurePolicy":"Ignore"}}"#),
        attempt(
            "run a command in the operator",
            "POST",
            format!("{SYSTEM}/pods/{operator}/exec?command=id&stdout=true"),
        ),
        attempt("read the operator's log", "GET", format!("{SYSTEM}/pods/{operator}/log")),
    ]
}

/// Everything that others run by.
fn on_others(operator: &str) -> Vec<Attempt> {
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"mine"},"spec":{"nodeName":"n2","hostPID":true,"containers":[{"name":"c","image":"c","securityContext":{"privileged":true}}]}}"#;
    let policy = r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"mine"},"spec":{"podSelector":{}}}"#;
    let label = r#"{"metadata":{"labels":{"taken":"over"}}}"#;
    let image = r#"{"spec":{"template":{"spec":{"containers":[{"name":"agent","image":"another"}]}}}}"#;
    vec![
        attempt("label its own Node", "PATCH", "/api/v1/nodes/n1").with(MERGE, label),
        attempt("patch the status of another Node", "PATCH", "/api/v1/nodes/n2/status").with(MERGE, label),
        attempt("delete a Node", "DELETE", "/api/v1/nodes/n2"),
        attempt("start a privileged pod on another node", "POST", format!("{SYSTEM}/pods")).with(JSON, pod),
        attempt("delete the operator's pod", "DELETE", format!("{SYSTEM}/pods/{operator}")),
        attempt(
            "give agents another image",
            "PATCH",
            "/apis/apps/v1/namespaces/towpath-system/daemonsets/towpath-agent",
        )
        .with("application/strategic-merge-patch+json", image),
        attempt(
            "scale the operator away",
            "PATCH",
            "/apis/apps/v1/namespaces/towpath-system/deployments/towpath-operator",
        )
        .with(MERGE, r#"{"spec":{"replicas":0}}"#),
        attempt("have agents believe another operator", "PATCH", format!("{SYSTEM}/configmaps/towpath-control"))
            .with(MERGE, r#"{"data":{"ca.crt":"mine"}}"#),
        attempt(
            "send agents to another operator",
            "DELETE",
            "/apis/discovery.k8s.io/v1/namespaces/towpath-system/endpointslices",
        ),
        attempt("read another namespace's ConfigMaps", "GET", "/api/v1/namespaces/kube-system/configmaps"),
        attempt(
            "take the operator's lease",
            "PATCH",
            "/apis/coordination.k8s.io/v1/namespaces/towpath-system/leases/towpath-operator",
        )
        .with(MERGE, r#"{"spec":{"holderIdentity":"mine"}}"#),
        attempt("write a policy", "POST", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies")
            .with(JSON, policy),
    ]
}

/// All that the attempts would have changed, in the order of the API.
fn everything(cluster: &Cluster) -> Vec<Value> {
    let kinds = [
        "nodenetworks -o json",
        "clusternetworks -o json",
        "clusterroles,clusterrolebindings -l app.kubernetes.io/part-of=towpath -o json",
        "validatingadmissionpolicies,validatingadmissionpolicybindings -o json",
        "-n towpath-system daemonsets,deployments,configmaps,secrets,serviceaccounts -o json",
        "-A networkpolicies -o json",
    ];
    let specs = |line: &str| {
        let list: Value = serde_json::from_str(&cluster.kubectl(&format!("get {line}"))).unwrap();
        let items = list["items"].as_array().unwrap().clone();
        items
            .into_iter()
            .map(|item| serde_json::json!([item["metadata"]["name"], item["spec"], item["data"], item["rules"]]))
    };
    kinds.into_iter().flat_map(specs).collect()
}

#[test]
fn a_compromised_agent_can_write_the_status_of_its_own_node_and_nothing_else() {
    let cluster = Cluster::up("compromised");
    let attacker = Attacker::on_n1(&cluster);
    let operator = cluster.kubectl(
        "-n towpath-system get pod -l app.kubernetes.io/name=towpath-operator -o jsonpath={.items[0].metadata.name}",
    );
    let own = attempt("patch the status of the own node", "PATCH", format!("{NETWORKS}/n1/status?dryRun=All"))
        .with(MERGE, MTU);
    let answer = attacker.ask(&own);
    assert_eq!(answer.code, 200, "what an agent is for: {}", answer.text);

    let before = everything(&cluster);
    let attempts: Vec<Attempt> =
        [on_networks(), on_rights(&operator), on_others(&operator)].into_iter().flatten().collect();
    assert!(attempts.len() >= 30, "{} attempts", attempts.len());
    for attempt in &attempts {
        let answer = attacker.ask(attempt);
        assert!(matches!(answer.code, 403 | 422), "{}: {} {}", attempt.what, answer.code, answer.text);
        assert!(
            answer.text.contains("forbidden") || answer.text.contains("denied request"),
            "{}: {}",
            attempt.what,
            answer.text
        );
    }
    the_stream_of_another_node_is_refused(&attacker);
    assert_eq!(everything(&cluster), before);
    cluster.wait_for("a network that is as ready as before", Duration::from_secs(120), || {
        let nodes = cluster.field("clusternetwork/default", ".status.nodes.readyOfDesired");
        if nodes == "3/3" { Ok(()) } else { Err(nodes) }
    });
}

fn the_stream_of_another_node_is_refused(attacker: &Attacker<'_>) {
    let admin = "-n towpath-system create token towpath-agent --audience=towpath-control";
    let unbound = attacker.cluster.kubectl(admin);
    let another = attacker.cluster.kubectl("-n default create token default --audience=towpath-control");
    let refusals = [
        ("the stream of another node", attacker.control.as_str(), Some("n2"), "7"),
        ("a stream by the token for the API server", &attacker.api, None, "16"),
        ("a stream by a token that is bound to no node", unbound.trim(), None, "16"),
        ("a stream by the token of another service account", another.trim(), None, "7"),
        ("a stream without a token", "", None, "16"),
    ];
    for (what, token, node, code) in refusals {
        let said = attacker.follow(token, node);
        assert!(said.to_lowercase().contains(&format!("grpc-status: {code}")), "{what}: {said}");
    }
}
