//! Upstream's specs of `NetworkPolicy`.

use crate::{
    cluster::Cluster,
    specs::{Selection, pass},
};

#[test]
fn upstreams_network_policy_specs_pass() {
    let selection = Selection {
        names: r"sig-network.*Netpol",
        left_out: "policies-left-out.txt",
        reasons: include_str!("../../policies-left-out.txt"),
    };
    pass(&Cluster::up("spec-policies"), selection);
}
