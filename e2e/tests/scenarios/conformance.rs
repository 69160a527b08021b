//! Upstream's conformance specs of the network.

use crate::{
    cluster::Cluster,
    specs::{Selection, pass},
};

#[test]
fn upstreams_conformance_specs_pass() {
    let selection = Selection {
        names: r"sig-network.*\[Conformance\]",
        left_out: "specs-left-out.txt",
        reasons: include_str!("../../specs-left-out.txt"),
    };
    pass(&Cluster::up("spec-conformance"), selection);
}
