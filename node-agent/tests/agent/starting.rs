//! What an agent goes on from when it starts, and when its node did.

use std::fs;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use towpath_kernel::testing::isolated;
use towpath_node_agent::paths::Paths;
use towpath_node_agent::policy::Receipt;
use towpath_node_agent::snapshot::Update;
use towpath_node_agent::worker::{End, Worker};

use super::leaving::assignment;
use super::node::{Node, run, wait_for};
use super::pair::SOON;

fn stop(worker: Worker) {
    worker.inbox.end(End::Stop);
    worker.join().unwrap();
}

/// The answer to what the worker was told before.
fn asked(worker: &Worker) -> Receiver<Result<(), String>> {
    let (tell, told) = channel();
    worker.inbox.put(Update::Receipt(Receipt::telling(move |answer| tell.send(answer).unwrap())));
    told
}

/// Waits until what the worker was told before is done.
fn done(worker: &Worker) {
    let told = asked(worker);
    wait_for("an answer", SOON, || match told.try_recv() {
        Ok(answer) => {
            answer.unwrap();
            true
        }
        Err(TryRecvError::Empty) => false,
        Err(TryRecvError::Disconnected) => panic!("nobody brings it about"),
    });
}

/// The worker has gone once through all that it does.
fn done_once(worker: &Worker) {
    for _ in 0..2 {
        done(worker);
    }
}

#[test]
fn pods_start_when_policies_are_known_and_a_node_that_starts_waits_for_its_own_part() {
    let name = "starting::pods_start_when_policies_are_known_and_a_node_that_starts_waits_for_its_own_part";
    isolated(name, || {
        let node = Node::make();
        let paths = node.paths();
        let worker = Worker::start(paths.clone()).unwrap();
        worker.inbox.put(Update::State(Box::new(assignment())));
        wait_for("all but files", SOON, || worker.snapshots.borrow().programmed);
        assert!(!paths.node_file().exists() && !paths.conflist().exists());
        worker.inbox.put(Update::Enforced(true));
        wait_for("files", SOON, || worker.snapshots.borrow().cni_installed);
        assert!(fs::read_to_string(paths.node_file()).unwrap().contains("\"startup\": \"Wait\""));
        stop(worker);
        // The agent alone starts again.
        let worker = Worker::start(paths.clone()).unwrap();
        wait_for("all of it", SOON, || worker.snapshots.borrow().cni_installed);
        stop(worker);
        // The node does: what is in memory is gone, and its ranges may be another node's.
        fs::remove_dir_all(&paths.state).unwrap();
        let worker = Worker::start(paths.clone()).unwrap();
        worker.inbox.put(Update::Enforced(true));
        done_once(&worker);
        assert_eq!(worker.counts.borrow().turns, 0);
        assert!(paths.last_state().exists() && !paths.node_file().exists());
        worker.inbox.put(Update::State(Box::new(assignment())));
        wait_for("all of it again", SOON, || worker.snapshots.borrow().cni_installed);
        stop(worker);
    });
}

#[test]
fn an_update_is_answered_also_where_something_else_fails_and_by_no_worker_that_has_ended() {
    isolated("starting::an_update_is_answered_also_where_something_else_fails_and_by_no_worker_that_has_ended", || {
        let node = Node::make();
        let worker = Worker::start(Paths { cni_binary: node.path("missing").into(), ..node.paths() }).unwrap();
        worker.inbox.put(Update::State(Box::new(assignment())));
        worker.inbox.put(Update::Enforced(false));
        done(&worker);
        wait_for("that something fails", SOON, || !worker.snapshots.borrow().failures.is_empty());
        worker.inbox.put(Update::Peer("n4".into(), None));
        done(&worker);
        assert!(!run("ip route show").contains("10.244.4.0/24"));
        worker.inbox.end(End::Stop);
        worker.inbox.put(Update::State(Box::new(assignment())));
        let answer = asked(&worker);
        worker.join().unwrap();
        assert!(answer.recv().is_err(), "nobody brought it about");
    });
}
