//! Random operations against a model: no address is given twice, none that may not be given, and nothing is left.
//!
//! `TOWPATH_SEED` gives the same operations again, `TOWPATH_OPERATIONS` more of them; a failure prints both.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod chance;
#[path = "../crash/ground.rs"]
mod ground;
mod node;
mod pools;
mod store;
#[path = "../support/mod.rs"]
mod support;
#[path = "../crash/tracer.rs"]
mod tracer;

use towpath_kernel::testing::isolated;

#[test]
fn any_operations_on_leases_leave_them_as_a_model_says() {
    isolated("any_operations_on_leases_leave_them_as_a_model_says", || {
        std::fs::create_dir_all(support::STATE).unwrap();
        store::run(support::STATE.as_ref(), 20_000);
    });
}

#[test]
fn any_operations_on_pods_leave_the_node_as_a_model_says() {
    isolated("any_operations_on_pods_leave_the_node_as_a_model_says", || node::run(2_000));
}
