//! What the table looks like to people.

use std::path::Path;
use std::process::Command;

use towpath_kernel::policy::{Meanwhile, PolicyTable};
use towpath_kernel::testing::isolated;

use crate::bundles::representative;

pub fn listed() -> String {
    let output = Command::new("nft").args(["-s", "list", "table", "inet", "towpath-policy"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What the kernel has in no order of its own.
    sorted(&String::from_utf8(output.stdout).unwrap())
}

/// Orders the elements of each set: the kernel lists them by hashes that are others after each start.
fn sorted(listing: &str) -> String {
    let mut text = String::new();
    let mut rest = listing;
    while let Some((before, after)) = rest.split_once("elements = { ") {
        let (elements, behind) = after.split_once(" }").unwrap();
        let mut all: Vec<String> =
            elements.split(',').map(|one| one.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        all.sort();
        text = [&text, before, "elements = { ", &all.join(",\n\t\t\t     "), " }"].concat();
        rest = behind;
    }
    text + rest
}

#[test]
fn nft_lists_what_was_reviewed() {
    isolated("golden::nft_lists_what_was_reviewed", || {
        for (name, case) in representative() {
            let mut table = PolicyTable::open().unwrap();
            table.load(&case.bundle, &case.leases, Meanwhile::Closed).unwrap();
            let listed = listed();
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy/golden").join(format!("{name}.txt"));
            if std::env::var_os("TOWPATH_GOLDEN_WRITE").is_some() {
                std::fs::write(&file, &listed).unwrap();
            }
            let golden = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(listed, golden, "{name}: after a look, TOWPATH_GOLDEN_WRITE=1 writes {}", file.display());
        }
    });
}
