//! What the development kernel lacks, on one that has everything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use towpath_e2e::{
    guest::{Guest, Task},
    progress::Progress,
};

#[test]
fn a_command_of_the_host_runs_in_the_guest_and_its_end_is_told() {
    let guest = Guest::prepare(&Progress::shown()).unwrap();
    let command = "cat /proc/uptime; touch /root/x && id; ip link add a type wireguard && ip link; exit 7";
    let outcome = guest.run(Task { command, limit: Duration::from_secs(60), shown: true }).unwrap();
    assert_eq!(outcome.status, 7, "{}", outcome.output);
}
