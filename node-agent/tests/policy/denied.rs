//! The log of denied flows.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use towpath_kernel::netns::Namespace;
use towpath_kernel::testing::isolated;
use towpath_net::policy::input::Key;
use towpath_net::policy::settings::{FlowLog, LogDenied};

use super::harness::*;

/// What was logged.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn lines(&self, of: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(of)).map(str::to_owned).collect()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn addresses_of(agent: &Agent, uid: &str) -> Vec<IpAddr> {
    agent.0.in_force.borrow().pods[uid].addresses.clone()
}

/// Sends a packet from pod `b`.
fn send(to: IpAddr, port: u16) {
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:5000" } else { "[::]:5000" }.parse().unwrap();
    let namespace = Namespace::open("/run/netns/b").unwrap();
    let socket = namespace.run(|| UdpSocket::bind(any).unwrap()).unwrap();
    socket.send_to(b"hello", SocketAddr::new(to, port)).unwrap();
}

fn rules() -> usize {
    listed().iter().filter(|line| line.contains("log prefix")).count()
}

#[test]
fn a_flow_that_is_denied_is_logged_with_the_pods_and_the_policy_and_not_more_often_than_is_wanted() {
    isolated(
        "denied::a_flow_that_is_denied_is_logged_with_the_pods_and_the_policy_and_not_more_often_than_is_wanted",
        || {
            let written = Written::default();
            let writer = written.clone();
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
            node();
            let mut bundle = bundle();
            let policies = vec![Key { namespace: "web".to_owned(), name: "friends-alone".to_owned() }];
            let profile = bundle.profiles.values_mut().next().unwrap();
            profile.ingress.isolated.as_mut().unwrap().policies = policies;
            let agent = Agent::restart(Some(told(bundle)));
            assert_eq!(rules(), 0, "nobody wants it");
            agent.0.inbox.log(FlowLog { denied: LogDenied::Flows, per_second: 100 });
            wait_until("the kernel tells of it", || rules() > 0);
            let (from, to) = (addresses_of(&agent, "b"), addresses_of(&agent, "a"));
            for (from, to) in from.into_iter().zip(to) {
                let (source, destination) = (SocketAddr::new(from, 5000), SocketAddr::new(to, 9));
                let line = format!(
                    "denied direction=ingress from=\"web/b\" to=\"web/a\" source=\"{source}\" destination=\"{destination}\" \
                 protocol=\"UDP\" why=\"Isolated\" policy=\"web/friends-alone\" packets=1"
                );
                send(to, 9);
                wait_until(&format!("{line}: {:?}", written.lines("")), || !written.lines(&line).is_empty());
                // Of the same flow nothing more is told so soon.
                send(to, 9);
                send(to, 10);
                wait_until("the next flow is logged", || {
                    !written.lines(&SocketAddr::new(to, 10).to_string()).is_empty()
                });
                assert_eq!(written.lines(&line).len(), 1);
            }
            // More than is wanted.
            agent.0.inbox.log(FlowLog { denied: LogDenied::Flows, per_second: 1 });
            // Who answers has heard of that: no packet is counted by what was wanted before.
            agent.digests();
            let to = addresses_of(&agent, "a")[0];
            let before = written.lines("denied direction").len();
            (100..150).for_each(|port| send(to, port));
            wait_until("it is told that some were left out", || {
                !written.lines("packets of denied flows were not logged").is_empty()
            });
            let more = written.lines("denied direction").len() - before;
            assert!(more < 25, "{more} of 50");
            agent.0.inbox.log(FlowLog { denied: LogDenied::None, per_second: 1 });
            wait_until("the kernel tells of nothing", || rules() == 0);
            assert!(!agent.digests().pods.is_empty());
            agent.stop();
        },
    );
}
