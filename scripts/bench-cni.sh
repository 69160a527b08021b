#!/usr/bin/env bash
# How long the CNI binary takes, against ptp, host-local and portmap of the reference plugins, in turn on the same machine.
# Ends with an error where a bar is missed. All of it runs in namespaces that end with it.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

rounds=${1:-50}
[[ "$rounds" =~ ^[1-9][0-9]*$ && "$rounds" -ge 5 ]] || fail "usage: scripts/bench-cni.sh [ROUNDS], where ROUNDS is 5 or more (50 otherwise), not '$rounds'"
[ "$(id -u)" -eq 0 ] || fail "network namespaces are made by root: run this as root"

target=$(rustc -vV | sed -n 's/^host: //p')
step "the CNI binary, as it is shipped"
RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile cni --locked --target "$target" -p towpath-cni
step "rounds: $rounds"
cargo bench --quiet --locked --profile dev -p towpath-e2e --bench cni -- \
  --towpath "$CARGO_TARGET_DIR/$target/cni/towpath" --rounds "$rounds"
