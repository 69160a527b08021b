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

# What runs with the clock in view, as leases, deadlines and healing do, runs by itself.
timely=(towpath-control towpath-node-agent towpath-operator)

# Scenarios wait most of their time, for programs and for the clock: of what needs no cluster most runs beside them, behind them in line.
beside() {
  local outcome=0
  nice cargo test --workspace --exclude towpath-e2e "${timely[@]/#/--exclude=}" --locked --no-fail-fast || outcome=$?
  nice cargo test --quiet --locked --manifest-path fuzz/Cargo.toml --test corpus || outcome=$?
  nice scripts/fuzz.sh || outcome=$?
  return "$outcome"
}

# Why tests failed, as the last that is read: thousands of lines may be behind it.
reasons() {
  { grep --no-filename -A 3 "^thread '.*' .*panicked at" "$@" || true; } | cut -c -1000 | head -n 100
}

step "building the tests"
cargo test --quiet --workspace --locked --no-run
clusters="$TOWPATH_CACHE/scenarios.log" others="$TOWPATH_CACHE/units.log"
step "scenarios on real clusters, also in $clusters; beside them units, properties, namespaces and fuzzing, which write to $others"
beside >"$others" 2>&1 &
units=$!
outcome=0
export TOWPATH_IMAGE_FOLDER="$TOWPATH_CACHE/image"
cargo test --locked -p towpath-e2e --no-fail-fast -- --test-threads=1 --nocapture 2>&1 | tee "$clusters" || outcome=$?
step "units, properties, namespaces and fuzzing"
wait "$units" || outcome=$?
cat "$others"
step "operator, agent, and what they tell each other"
own="$TOWPATH_CACHE/timely.log"
cargo test "${timely[@]/#/--package=}" --locked --no-fail-fast 2>&1 | tee "$own" || outcome=$?
[ "$outcome" -eq 0 ] || { reasons "$clusters" "$others" "$own"; fail "tests failed: see $clusters, $others and $own"; }

step "the host is as it was"
host_is_as_before
step "done"
