//! An agent on a node of its own, told its state by files.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{CreateFlags, WatchFlags, add_watch, init},
    process::{Pid, PidfdFlags, pidfd_open},
};
use towpath_kernel::netlink::{Protocol, Socket, Wait};

use crate::{
    batch::run,
    cluster::{Node, state},
    support::figures::{Sample, measure},
};

/// Where the agent serves metrics.
const LISTEN: &str = "127.0.0.1:9471";
/// `RTNLGRP_IPV4_ROUTE` (`linux/rtnetlink.h`).
const ROUTES: u32 = 7;
/// How long anything may take.
const LONGEST: Duration = Duration::from_secs(300);

/// A node's folders, and its uplink in this network namespace.
pub struct Ground {
    root: PathBuf,
    agent: PathBuf,
}

impl Ground {
    /// Makes the uplink, and the folders below `root`.
    pub fn new(root: &Path, agent: &Path) -> Self {
        run(Command::new("ip").args(["link", "set", "lo", "up"]));
        run(Command::new("ip").args(["link", "add", "eth0", "type", "veth", "peer", "name", "wire"]));
        run(Command::new("ip").args(["address", "add", &format!("{}/12", Node(0).address()), "dev", "eth0"]));
        for link in ["eth0", "wire"] {
            run(Command::new("ip").args(["link", "set", link, "up"]));
        }
        fs::write(root.join("towpath"), "the CNI binary, which nobody starts here").unwrap();
        Self { root: root.to_owned(), agent: agent.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes the state of a node with so many peers, in one file.
    pub fn write_file(&self, peers: u32) -> PathBuf {
        let path = self.path("state.json");
        fs::write(&path, serde_json::to_vec(&state(peers)).unwrap()).unwrap();
        path
    }

    /// The same in a folder with one file for each peer.
    pub fn write_folder(&self, peers: u32) -> PathBuf {
        let folder = self.path("state");
        fs::create_dir_all(folder.join("peers")).unwrap();
        for (name, peer) in state(peers).peers {
            fs::write(folder.join(format!("peers/{name}.yaml")), serde_json::to_vec(&peer).unwrap()).unwrap();
        }
        fs::write(folder.join("node.yaml"), serde_json::to_vec(&state(0)).unwrap()).unwrap();
        folder
    }

    /// Starts an agent, and waits until the kernel has everything: then it writes the runtime's configuration.
    pub fn start(&self, state: &Path) -> Running {
        let done = self.path("net.d/05-towpath.conflist");
        _ = fs::remove_file(&done);
        let mut command = Command::new(&self.agent);
        command.args(["run", "--listen", LISTEN, "--file"]).arg(state);
        for (argument, name) in
            [("--state-dir", "run"), ("--cni-conf-dir", "net.d"), ("--cni-bin-dir", "bin"), ("--cni-binary", "towpath")]
        {
            command.arg(argument).arg(self.path(name));
        }
        let log = fs::File::create(self.path("agent.log")).unwrap();
        let child = command.stdout(log).stderr(Stdio::inherit()).spawn().unwrap();
        wait_for_file(&done);
        Running { child }
    }

    /// Starts an agent, and ends it as soon as the kernel has everything.
    pub fn once(&self, state: &Path) -> Sample {
        measure(|| self.start(state).end()).1
    }
}

/// An agent that runs.
pub struct Running {
    child: Child,
}

impl Running {
    /// Ends it at once, without a word.
    pub fn end(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How often it wrote to the kernel, as it tells.
    #[expect(clippy::unused_self, reason = "only of an agent that runs")]
    pub fn writes(&self) -> u64 {
        let mut stream = TcpStream::connect(LISTEN).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix("towpath_agent_kernel_writes "));
        value.unwrap_or_else(|| panic!("no count of writes: {text}")).parse().unwrap()
    }

    /// Lets time pass in which it must not end.
    pub fn runs_for(&self, time: Duration) {
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).unwrap();
        let ended =
            poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&Timespec::try_from(time).unwrap())).unwrap();
        assert_eq!(ended, 0, "the agent has ended");
    }

    /// Waits until it has nothing left to do: until a second in which it does not work.
    pub fn settles(&self) {
        let start = Instant::now();
        loop {
            let before = self.cpu();
            self.runs_for(Duration::from_secs(1));
            if self.cpu() == before {
                return;
            }
            assert!(start.elapsed() < LONGEST, "the agent still works");
        }
    }

    /// Waits until it has written all that belongs to the change before: so that each is one change.
    pub fn has_written(&self) {
        let mut before = self.writes();
        loop {
            let now = self.writes();
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// Memory that it holds, in bytes: pages that are its own and those that it shares.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// The processor time that it used so far, in steps of 10 ms (`sysconf(_SC_CLK_TCK)`).
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().map(|at: &usize| fields[*at].parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }
}

/// How long it takes from a peer's file to its route in the kernel.
pub fn add_peer(folder: &Path, node: Node) -> Duration {
    let mut events = Socket::open(Protocol::Route).unwrap();
    events.join(ROUTES).unwrap();
    let aside = folder.join("peer.new");
    fs::write(&aside, serde_json::to_vec(&node.peer()).unwrap()).unwrap();
    let wanted = node.tunnel().octets();
    let start = Instant::now();
    fs::rename(&aside, folder.join(format!("peers/{}.yaml", node.name()))).unwrap();
    loop {
        let datagram = events.receive(Wait::Block).unwrap().unwrap_or_default();
        if datagram.windows(wanted.len()).any(|bytes| bytes == wanted) {
            return start.elapsed();
        }
        assert!(start.elapsed() < LONGEST, "no route to {}", node.tunnel());
    }
}

/// Waits until somebody has made a file.
fn wait_for_file(path: &Path) {
    let folder = path.parent().unwrap();
    fs::create_dir_all(folder).unwrap();
    let changes = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
    add_watch(&changes, folder, WatchFlags::CREATE | WatchFlags::MOVED_TO).unwrap();
    let start = Instant::now();
    while !path.exists() {
        let left = LONGEST.checked_sub(start.elapsed());
        let left = left.unwrap_or_else(|| panic!("{} did not come within {LONGEST:?}", path.display()));
        poll(&mut [PollFd::new(&changes, PollFlags::IN)], Some(&Timespec::try_from(left).unwrap())).unwrap();
        // Which it was does not matter: the next look tells.
        while rustix::io::read(&changes, &mut [0; 4096]).is_ok() {}
    }
}
