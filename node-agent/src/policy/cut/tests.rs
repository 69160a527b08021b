use std::collections::BTreeMap;
use std::process::Command;

use towpath_kernel::testing::isolated;
use towpath_net::policy::bind::Leases;
use towpath_net::policy::bundle::{Delta, Direction, Isolation, PodPolicy, Profile, ProfileId};
use towpath_net::policy::flows::is_forbidden;
use towpath_net::policy::input::Key;

use super::*;

const DEADLINE: Duration = Duration::from_secs(30);

fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// How many connections with pod `a` there are.
fn followed() -> usize {
    run("conntrack -L -p tcp --orig-dst 10.0.0.2 2>/dev/null").lines().count()
}

fn connect(port: u16) {
    run(&format!("conntrack -I -p tcp -s 10.0.0.9 -d 10.0.0.2 --sport {port} --dport 80 --state ESTABLISHED -t 1000"));
}

/// Pod `a`, which may be reached or not.
fn bundle(is_isolated: bool) -> Bundle {
    let isolated = is_isolated.then(Isolation::default);
    let ingress = Direction { isolated, ..Direction::default() };
    let id = ProfileId(u64::from(is_isolated));
    let key = Key { namespace: "x".into(), name: "a".into() };
    Bundle {
        is_enforced: true,
        pods: BTreeMap::from([("a".into(), PodPolicy { key, profile: Some(id), is_policed: true })]),
        profiles: BTreeMap::from([(id, Profile { ingress, egress: Direction::default() })]),
        sets: BTreeMap::new(),
    }
}

fn program(bundle: &Bundle) -> Program {
    let leases = Leases::from([("a".into(), vec!["10.0.0.2".parse().unwrap()])]);
    Program::of(bundle, &leases).unwrap().0
}

/// As the thread of policies does, until nothing is owed any more.
fn settle(cutter: &mut Cutter, bundle: &Bundle) {
    let (program, end) = (program(bundle), Instant::now() + DEADLINE);
    while cutter.begin(bundle, &program).is_some() || cutter.looking.is_some() {
        if let Some((mut connections, suspects)) = cutter.found() {
            connections.retain(|one| is_forbidden(bundle, program.bound(), &suspects, &one.packet));
            cutter.cut(connections);
        }
        assert!(Instant::now() < end, "it never ends");
        thread::yield_now();
    }
}

fn wait_until(count: usize) {
    let end = Instant::now() + DEADLINE;
    while followed() != count {
        assert!(Instant::now() < end, "{} connections, and not {count}", followed());
    }
}

#[test]
fn what_is_owed_is_cut_at_a_measured_pace_and_the_last_change_too() {
    isolated("policy::cut::tests::what_is_owed_is_cut_at_a_measured_pace_and_the_last_change_too", || {
        let (open, closed) = (bundle(false), bundle(true));
        let mut cutter = Cutter::start(Inbox::new().unwrap()).unwrap();
        connect(1);
        assert_eq!(cutter.begin(&closed, &program(&closed)), None, "nobody said what is wanted");
        assert!(cutter.looking.is_none() && !cutter.owed.is_empty());
        cutter.want(Established::Cut);
        // What went on before.
        settle(&mut cutter, &closed);
        wait_until(0);

        connect(2);
        let delta = Delta::between(&open, &closed);
        let view = View { before: &open, delta: &delta };
        cutter.suspect(view, Some(&program(&open)), &LeaseChanges::new());
        let next = cutter.next;
        let due = cutter.begin(&closed, &program(&closed));
        assert!(due == Some(next) || Instant::now() >= next, "{due:?}");
        settle(&mut cutter, &closed);
        wait_until(0);
        assert!(cutter.next >= next + PACE);

        // What only permits more is no reason to look.
        connect(3);
        let delta = Delta::between(&closed, &open);
        let view = View { before: &closed, delta: &delta };
        cutter.suspect(view, Some(&program(&closed)), &LeaseChanges::new());
        assert!(cutter.owed.is_empty());
    });
}

#[test]
fn nothing_is_cut_where_connections_are_to_be_kept() {
    isolated("policy::cut::tests::nothing_is_cut_where_connections_are_to_be_kept", || {
        let closed = bundle(true);
        let mut cutter = Cutter::start(Inbox::new().unwrap()).unwrap();
        connect(1);
        cutter.want(Established::Keep);
        cutter.suspect_everyone();
        assert_eq!(cutter.begin(&closed, &program(&closed)), None);
        assert!(cutter.looking.is_none() && cutter.owed.is_empty());
        assert_eq!(followed(), 1);
        cutter.want(Established::Cut);
        settle(&mut cutter, &closed);
        wait_until(0);
    });
}
