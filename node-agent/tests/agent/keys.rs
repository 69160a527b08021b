//! The node's WireGuard keys: kept by one file and the kernel, and told by nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use towpath_kernel::testing::isolated;

use super::node::{Node, STATE, get, routes, run, wait_for};

const SOON: Duration = Duration::from_secs(20);

/// The state of a node whose packets are to be encrypted; its peer has told a key.
fn encrypted() -> String {
    let key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
    let keys = format!("accepts: [WireGuard], keys: {{first: \"{key}\"}}");
    STATE.replace("prefers: [Direct], accepts: [Direct]", "prefers: [WireGuard], accepts: [WireGuard]").replacen(
        "accepts: [Direct]",
        &keys,
        1,
    )
}

/// All that is kept below a folder, but for one file.
fn all_but(folder: &Path, file: &Path) -> Vec<u8> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let others = entries.filter(|path| path != file);
    let read = |path: std::path::PathBuf| if path.is_dir() { all_but(&path, file) } else { fs::read(&path).unwrap() };
    others.flat_map(read).collect()
}

#[test]
fn private_keys_are_in_their_file_alone_and_survive_the_agent() {
    isolated("keys::private_keys_are_in_their_file_alone_and_survive_the_agent", || {
        let node = Node::make();
        fs::write(node.path("state.yaml"), encrypted()).unwrap();
        let log = fs::File::create(node.path("log")).unwrap();
        let start = || {
            let mut command = node.command("run");
            command.args(["--cni-binary", &node.path("towpath"), "--listen", "127.0.0.1:9471"]);
            command.env("RUST_LOG", "trace").stdout(Stdio::null()).stderr(log.try_clone().unwrap()).spawn().unwrap()
        };
        let file = node.path("towpath-state/agent/wireguard.json");
        let file = Path::new(&file);
        let mut agent = start();
        wait_for("the keys", SOON, || file.exists() && get("/metrics").contains("towpath_agent_turns"));
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(file).unwrap();
        let kept: Value = serde_json::from_str(&text).unwrap();
        let secrets: Vec<&str> = ["first", "second"].map(|slot| kept[slot]["private"].as_str().unwrap()).to_vec();
        assert_ne!(secrets[0], secrets[1]);

        let printed = |action: &str| node.command(action).env("RUST_LOG", "trace").output().unwrap();
        let (plan, dump) = (printed("plan"), printed("dump"));
        assert!(plan.status.success() && dump.status.success());
        let words = String::from_utf8(plan.stdout.clone()).unwrap();
        assert!(words.contains("towwg0"), "{words}");
        let told = [plan.stdout, plan.stderr, dump.stdout, dump.stderr, get("/metrics").into(), get("/readyz").into()];
        let everywhere = [told.concat(), all_but(Path::new(&node.path("")), file)].concat();
        let everywhere = String::from_utf8_lossy(&everywhere);
        for secret in &secrets {
            assert!(!everywhere.contains(secret));
        }

        agent.kill().unwrap();
        agent.wait().unwrap();
        let mut agent = start();
        wait_for("the next agent", SOON, || get("/metrics").contains("towpath_agent_turns"));
        let again: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(again["first"]["private"].as_str(), Some(secrets[0]), "keys outlive the agent");
        agent.kill().unwrap();
        agent.wait().unwrap();

        fs::write(file, text.replacen("\"made\"", "\"maid\"", 1)).unwrap();
        let mut agent = start();
        wait_for("new keys", SOON, || !fs::read_to_string(file).unwrap().contains("maid"));
        let log = fs::read_to_string(node.path("log")).unwrap();
        assert!(log.contains("is damaged in line 1") && secrets.iter().all(|secret| !log.contains(secret)));
        agent.kill().unwrap();
        agent.wait().unwrap();
    });
}

/// Whether this kernel can make a WireGuard link; `ip` has the kernel load what it needs.
fn has_wireguard() -> bool {
    let made = Command::new("ip").args(["link", "add", "probe", "type", "wireguard"]).status().unwrap().success();
    made && !run("ip link delete probe").contains("probe")
}

#[test]
fn where_the_kernel_cannot_encrypt_nothing_leaves_and_the_module_is_named() {
    isolated("keys::where_the_kernel_cannot_encrypt_nothing_leaves_and_the_module_is_named", || {
        let node = Node::make();
        fs::write(node.path("state.yaml"), encrypted()).unwrap();
        let log = fs::File::create(node.path("log")).unwrap();
        let mut command = node.command("run");
        command.args(["--cni-binary", &node.path("towpath"), "--listen", "127.0.0.1:9471"]);
        let mut agent = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let told = "transport WireGuard is not effective: this kernel has no WireGuard (module wireguard)";
        if has_wireguard() {
            wait_for("the way to the peer", SOON, || routes().contains("10.244.4.0/24 dev towwg0"));
        } else {
            let said = || get("/readyz");
            wait_for("what is told", SOON, || said().contains("WireGuard"));
            assert!(said().contains(told), "{}", said());
            let log = fs::read_to_string(node.path("log")).unwrap();
            assert!(!log.contains("cannot apply"), "more is told than what the kernel lacks: {log}");
            let routes = routes();
            assert!(!routes.contains(" via ") && !routes.contains("dev eth0"), "{routes}");
            assert!(!Path::new(&node.path("net.d/05-towpath.conflist")).exists());
        }
        assert!(run("nft list table inet towpath").contains("drop"));
        agent.kill().unwrap();
        agent.wait().unwrap();
    });
}
