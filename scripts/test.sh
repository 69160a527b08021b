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

# Names of the files of tests of these packages, as options.
files_of() {
  cargo metadata --no-deps --offline --format-version 1 | python3 -c '
import json, sys
for package in json.load(sys.stdin)["packages"]:
    for target in package["targets"]:
        if package["name"] in sys.argv[1:] and "test" in target["kind"]:
            print("--test=" + target["name"])' "$@" | sort -u
}

# Runs tests, always of the whole workspace: what is compiled for one package alone has other features, and is compiled again.
# What they print is shown by way of a file: where they share a pipe, one program can keep all others from waiting for room in it,
# and what these say is lost.
tests() {
  local log=$1 shower outcome=0
  shift
  : >"$log"
  tail -n +1 -f --pid=$$ "$log" &
  shower=$!
  cargo test --workspace --locked --no-fail-fast "$@" >"$log" 2>&1 || outcome=$?
  # It looks once a second.
  sleep 2
  kill "$shower"
  wait "$shower" 2>/dev/null || true
  return "$outcome"
}

mapfile -t clusters < <(files_of towpath-e2e)
# What runs with the clock in view, as leases, deadlines and healing do, runs by itself.
mapfile -t timely < <(files_of towpath-control towpath-node-agent towpath-operator)
mapfile -t others < <(files_of towpath-cni towpath-crds towpath-kernel towpath-net | grep -vxF -e "$(printf '%s\n' "${timely[@]}")")
[ "${#clusters[@]}" -gt 0 ] && [ "${#timely[@]}" -gt 0 ] && [ "${#others[@]}" -gt 0 ] || fail "the tests of the workspace could not be listed"

# Scenarios wait most of their time, for programs and for the clock: of what needs no cluster most runs beside them, behind them in line.
beside() {
  local outcome=0
  nice cargo test --workspace --locked --no-fail-fast --lib --bins "${others[@]}" || outcome=$?
  nice cargo test --workspace --locked --doc || outcome=$?
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
logs="$TOWPATH_CACHE"
step "scenarios on real clusters, also in $logs/scenarios.log; beside them units, properties, namespaces and fuzzing, in $logs/units.log"
beside >"$logs/units.log" 2>&1 &
units=$!
outcome=0
export TOWPATH_IMAGE_FOLDER="$TOWPATH_CACHE/image"
tests "$logs/scenarios.log" "${clusters[@]}" -- --test-threads=1 --nocapture || outcome=$?
step "units, properties, namespaces and fuzzing"
wait "$units" || outcome=$?
cat "$logs/units.log"
step "operator, agent, and what they tell each other, also in $logs/timely.log"
tests "$logs/timely.log" "${timely[@]}" || outcome=$?
[ "$outcome" -eq 0 ] || { reasons "$logs"/{scenarios,units,timely}.log; fail "tests failed: see $logs/{scenarios,units,timely}.log"; }

step "the host is as it was"
host_is_as_before
step "done"
