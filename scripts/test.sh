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

# Scenarios wait most of their time, for programs and for the clock: what needs no cluster runs beside them, behind them in line.
beside() {
  nice cargo test --workspace --exclude towpath-e2e --locked
  nice cargo test --quiet --locked --manifest-path fuzz/Cargo.toml --test corpus
  nice scripts/fuzz.sh
}

step "building the tests"
cargo test --quiet --workspace --locked --no-run
others="$TOWPATH_CACHE/units.log"
step "scenarios on real clusters; beside them units, properties, namespaces and fuzzing, which write to $others"
beside >"$others" 2>&1 &
units=$!
outcome=0
TOWPATH_IMAGE_FOLDER="$TOWPATH_CACHE/image" cargo test --locked -p towpath-e2e -- --test-threads=1 --nocapture || outcome=$?
step "units, properties, namespaces and fuzzing"
wait "$units" || outcome=$?
cat "$others"
[ "$outcome" -eq 0 ] || fail "tests failed"

step "the host is as it was"
host_is_as_before
step "done"
