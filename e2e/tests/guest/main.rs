//! What the development kernel lacks, on one that has everything.
//!
//! The tests that are named `inside` are those that run in the guest: one test of the host boots it and runs this
//! program in it once more, for all of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod alter;
mod build;
mod capture;
mod features;
mod ground;
mod healing;
mod here;
mod matrix;
mod network;
mod node;
mod probe;
mod profile;
mod sctp;
mod uplinks;
mod wireguard;

use std::{env, time::Duration};

use towpath_e2e::{
    guest::{Guest, Task},
    progress::Progress,
};

/// How long all of it may take: more than the emulated processor needs on a host that is busy.
const LIMIT: Duration = Duration::from_mins(40);

#[test]
fn everything_works_on_a_kernel_that_has_everything() {
    let progress = Progress::shown();
    let guest = Guest::prepare(&progress).unwrap();
    let programs = progress.long_step("build what runs in the guest", build::programs).unwrap();
    let own = env::current_exe().unwrap();
    let command = programs.command(&own);
    let outcome = guest.run(Task { command: &command, limit: LIMIT, shown: true }).unwrap();
    assert_eq!(outcome.status, 0, "in the guest");
    let passed = format!("{} passed; 0 failed", build::count_inside(&own));
    assert!(outcome.output.contains(&passed), "not all tests ran in the guest: {passed} is not what it says");
}

#[test]
fn what_a_command_in_the_guest_changes_is_gone_with_it_and_its_status_comes_back() {
    let guest = Guest::prepare(&Progress::quiet()).unwrap();
    let file = env::current_exe().unwrap().with_extension("trace");
    let command = format!("touch {file} && rm /etc/passwd && echo done; exit 7", file = file.display());
    let outcome = guest.run(Task { command: &command, limit: Duration::from_mins(2), shown: false }).unwrap();
    assert_eq!((outcome.status, outcome.output.as_str()), (7, "done\n"));
    assert!(!file.exists());
    assert!(std::path::Path::new("/etc/passwd").exists());
}

#[test]
fn whatever_is_altered_is_repaired_and_what_is_others_is_left_alone() {
    here::run("apart::whatever_is_altered_is_repaired");
}

#[test]
fn what_every_kernel_has_carries_whole_packets_in_every_cell() {
    here::run("apart::direct_and_vxlan_carry_whole_packets_in_every_cell");
}

#[test]
fn each_packet_leaves_by_the_uplink_that_leads_to_its_peer() {
    here::run("apart::each_packet_leaves_by_the_uplink_that_leads_to_its_peer");
}

#[test]
fn whatever_is_left_out_of_upstreams_suites_is_done_in_the_guest() {
    crate::sctp::everything_left_out_is_done_here();
    for group in sctp::GROUPS {
        assert!(build::has(&env::current_exe().unwrap(), group.test), "there is no test {}", group.test);
    }
}

/// Run in namespaces of their own on this kernel, by the tests above.
mod apart {
    use towpath_net::transport::Transport;

    #[test]
    #[ignore = "runs in namespaces of its own"]
    fn whatever_is_altered_is_repaired() {
        crate::healing::whatever_is_altered_is_repaired();
    }

    #[test]
    #[ignore = "runs in namespaces of its own"]
    fn direct_and_vxlan_carry_whole_packets_in_every_cell() {
        crate::matrix::all_cells(&[Transport::Direct, Transport::Vxlan]);
    }

    #[test]
    #[ignore = "runs in namespaces of its own"]
    fn each_packet_leaves_by_the_uplink_that_leads_to_its_peer() {
        crate::uplinks::each_packet_leaves_by_the_uplink_that_leads_to_its_peer();
    }
}

/// Run in the guest, by the first test.
mod inside {
    use towpath_net::transport::Transport;

    #[test]
    #[ignore = "runs in the guest"]
    fn the_kernel_has_what_is_missing_elsewhere() {
        crate::features::all_there();
    }

    #[test]
    #[ignore = "runs in the guest"]
    fn every_transport_attachment_and_family_carries_everything_without_a_fragment() {
        let network = crate::matrix::all_cells(&Transport::ALL);
        crate::matrix::with_loss_and_delay(&network, &Transport::ALL);
    }

    #[test]
    #[ignore = "runs in the guest"]
    fn calico_by_ip_in_ip_is_as_profiles_have_it() {
        crate::profile::calico_is_as_profiles_have_it();
    }

    #[test]
    #[ignore = "runs in the guest"]
    fn no_packet_of_a_pod_is_seen_in_clear_in_any_phase_of_a_node() {
        crate::wireguard::sealed_in_every_phase();
    }

    #[test]
    #[ignore = "runs in the guest"]
    fn keys_change_under_traffic_and_no_packet_is_lost() {
        crate::wireguard::keys_change_without_loss();
    }

    #[test]
    #[ignore = "runs in the guest"]
    fn cluster_policies_of_egress_hold_for_sctp() {
        crate::sctp::EGRESS.run();
    }

    #[test]
    #[ignore = "runs in the guest"]
    fn cluster_policies_of_ingress_hold_for_sctp() {
        crate::sctp::INGRESS.run();
    }

    #[test]
    #[ignore = "runs in the guest"]
    fn cluster_policies_of_both_ways_hold_for_sctp_udp_and_tcp() {
        crate::sctp::BOTH.run();
    }

    #[test]
    #[ignore = "runs in the guest"]
    fn addresses_and_nodes_as_peers_hold_for_sctp() {
        crate::sctp::PEERS.run();
    }

    #[test]
    #[ignore = "runs in the guest"]
    fn ports_of_sctp_are_those_of_no_other_protocol() {
        crate::sctp::PORTS.run();
    }

    #[test]
    #[ignore = "runs in the guest"]
    fn network_policies_hold_for_sctp() {
        crate::sctp::NAMESPACED.run();
    }
}
