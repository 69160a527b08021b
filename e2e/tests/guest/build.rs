//! What runs in the guest, built on the host: a compiler would take too long in there.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use towpath_e2e::run::{RunError, run};

/// Tests of other crates that need links which only the guest's kernel has.
const TESTS: [&str; 4] = ["devices", "wireguard", "transports", "tunnels"];
/// The kinds of links that those are to try: all.
const KINDS: &str = "bridge,vxlan,ipip,ip6tnl,geneve,wireguard";

/// Modules that nothing asks for by itself on a node, and those of nftables at once: each takes a process otherwise.
const MODULES: &str = "br_netfilter nft_chain_nat nft_masq nft_nat nft_ct nft_fib_inet nft_reject_inet vxlan geneve ipip ip6_tunnel wireguard sctp";
/// Names the tests that are to run in the guest, for who looks for something: all, where it is not set.
const ONLY: &str = "TOWPATH_GUEST_TESTS";

fn only() -> String {
    format!("inside::{}", env::var(ONLY).unwrap_or_default())
}

/// What was built.
pub struct Programs {
    agent: PathBuf,
    cni: PathBuf,
    tests: Vec<PathBuf>,
}

/// Builds the agent, the CNI binary and the tests of other crates.
pub fn programs() -> Result<Programs, RunError> {
    let [agent, cni] = node_programs()?;
    // Where some are chosen, they are of this program.
    if env::var_os(ONLY).is_some() {
        return Ok(Programs { agent, cni, tests: Vec::new() });
    }
    let mut arguments = vec!["test", "--no-run", "-p", "towpath-kernel"];
    arguments.extend(TESTS.iter().flat_map(|test| ["--test", test]));
    Ok(Programs { agent, cni, tests: built(&arguments)? })
}

/// What nodes run: the programs of the image, where there is one (`scripts/image.sh`), as in all other scenarios.
pub fn node_programs() -> Result<[PathBuf; 2], RunError> {
    if let Some(folder) = env::var_os("TOWPATH_IMAGE_FOLDER").map(PathBuf::from) {
        return Ok(["towpath-agent", "towpath"].map(|name| folder.join(name)));
    }
    let first = |paths: Vec<PathBuf>| paths.into_iter().next().unwrap();
    let agent = built(&["build", "-p", "towpath-node-agent", "--bin", "towpath-agent"])?;
    let cni = built(&["build", "-p", "towpath-cni", "--bin", "towpath"])?;
    Ok([first(agent), first(cni)])
}

/// What the names of variables begin with that tell of the package under test.
const OF_PACKAGE: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];

/// The programs that one call of Cargo made, as it tells them.
fn built(arguments: &[&str]) -> Result<Vec<PathBuf>, RunError> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(cargo);
    cargo.args(arguments).args(["--locked", "--quiet", "--message-format=json"]);
    // Cargo tells tests of which package they are: build scripts that look at that would run again, each time.
    for (name, _) in env::vars_os()
        .filter(|(name, _)| OF_PACKAGE.iter().any(|of| name.as_encoded_bytes().starts_with(of.as_bytes())))
    {
        cargo.env_remove(name);
    }
    let output = run(&mut cargo)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages.filter_map(|message| Some(message["executable"].as_str()?.into())).collect())
}

impl Programs {
    /// What the guest is to run: the tests of other crates, then those of `own` that are for it.
    pub fn command(&self, own: &Path) -> String {
        let shown = |path: &Path| path.display().to_string();
        let (agent, cni) = (shown(&self.agent), shown(&self.cni));
        let mut lines = format!(
            "export TOWPATH_AGENT={agent} TOWPATH_CNI={cni} TOWPATH_KINDS={KINDS}\nset -e\nmodprobe -a {MODULES}\n"
        );
        for test in &self.tests {
            lines = lines + &shown(test) + " --test-threads=1\n";
        }
        lines + &format!("exec {} --ignored --nocapture --test-threads=1 {}\n", shown(own), only())
    }
}

/// How many tests `own` has for the guest.
pub fn count_inside(own: &Path) -> usize {
    let listed = run(Command::new(own).args(["--list", "--ignored", &only()])).unwrap();
    String::from_utf8_lossy(&listed.stdout).lines().filter(|line| line.ends_with(": test")).count()
}

/// Whether `own` has a test of this name for the guest.
pub fn has(own: &Path, test: &str) -> bool {
    let listed = run(Command::new(own).args(["--list", "--ignored", "--exact", test])).unwrap();
    String::from_utf8_lossy(&listed.stdout).lines().any(|line| line == format!("{test}: test"))
}
