#!/usr/bin/env bash
# What policies cost in the kernel of a node, against the same ones written by hand for nft -f, in turn on the same machine.
# Ends with an error where a bar is missed. All of it runs in namespaces that end with it.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

rounds=${1:-5}
[[ "$rounds" =~ ^[1-9][0-9]*$ && "$rounds" -ge 3 ]] || fail "usage: scripts/bench-policy.sh [ROUNDS], where ROUNDS is 3 or more (5 otherwise), not '$rounds'"
[ "$(id -u)" -eq 0 ] || fail "network namespaces are made by root: run this as root"

step "rounds: $rounds"
cargo bench --quiet --locked -p towpath-kernel --bench policy -- "$rounds"

target=$(rustc -vV | sed -n 's/^host: //p')
step "the agent, as it is shipped"
RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$target" -p towpath-node-agent
step "the agent's memory"
cargo bench --quiet --locked --profile dev -p towpath-node-agent --bench policy_memory -- \
  "$CARGO_TARGET_DIR/$target/release/towpath-agent"
