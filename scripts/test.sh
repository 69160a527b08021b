#!/usr/bin/env bash
# Every test: units, properties, namespaces, and the scenarios on real clusters. The host is the same before and after.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

lab="$CARGO_TARGET_DIR/debug/lab"
before="$TOWPATH_CACHE/host-before.json"

# What a test may leave on the host: nothing. A process that is ending gets a moment.
host_is_as_before() {
  local parts=links,addresses,routes,rules,nftables,mounts,cgroups,namespaces,processes,settings
  for _ in $(seq 20); do
    "$lab" snapshot --compare "$before" --only "$parts" >/dev/null && return
    sleep 1
  done
  "$lab" snapshot --compare "$before" --only "$parts" || fail "the tests left traces on the host (+ new, - gone)"
}

scripts/image.sh
step "what a lab is made of"
cargo build --quiet --locked -p towpath-e2e --bin lab
"$lab" prepare --specs
for tool in cnitool crictl ocicni policy.test; do "$lab" binary "$tool" >/dev/null; done
"$lab" snapshot >"$before"

step "units, properties and namespaces"
cargo test --workspace --exclude towpath-e2e --locked

step "inputs that once broke something"
cargo test --quiet --locked --manifest-path fuzz/Cargo.toml --test corpus

step "fuzzing, a little"
scripts/fuzz.sh

step "scenarios on real clusters"
TOWPATH_IMAGE_FOLDER="$TOWPATH_CACHE/image" cargo test --locked -p towpath-e2e -- --test-threads=1 --nocapture

step "the host is as it was"
host_is_as_before
step "done"
