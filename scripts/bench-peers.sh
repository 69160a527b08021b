#!/usr/bin/env bash
# What many peers cost the agent, against ip -batch and bridge -batch of the same objects, in turn on the same machine.
# Ends with an error where a bar is missed. All of it runs in namespaces that end with it.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

rounds=${1:-5}
[[ "$rounds" =~ ^[1-9][0-9]*$ && "$rounds" -ge 3 ]] || fail "usage: scripts/bench-peers.sh [ROUNDS], where ROUNDS is 3 or more (5 otherwise), not '$rounds'"
[ "$(id -u)" -eq 0 ] || fail "network namespaces are made by root: run this as root"

target=$(rustc -vV | sed -n 's/^host: //p')
step "the agent, as it is shipped"
RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$target" -p towpath-node-agent
step "rounds: $rounds"
cargo bench --quiet --locked --profile dev -p towpath-e2e --bench peers -- \
  --agent "$CARGO_TARGET_DIR/$target/release/towpath-agent" --rounds "$rounds"
