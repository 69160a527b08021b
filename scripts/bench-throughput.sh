#!/usr/bin/env bash
# How much a connection between pods carries, against links that were made by hand, in turn on the same machine.
# Ends with an error where a bar is missed. All of it runs in namespaces that end with it.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

rounds=${1:-200}
[[ "$rounds" =~ ^[1-9][0-9]*$ && "$rounds" -ge 20 ]] || fail "usage: scripts/bench-throughput.sh [ROUNDS], where ROUNDS is 20 or more (200 otherwise), not '$rounds'"
[ "$(id -u)" -eq 0 ] || fail "network namespaces are made by root: run this as root"

scripts/image.sh
step "rounds: $rounds"
cargo bench --quiet --locked --profile dev -p towpath-e2e --bench throughput -- \
  --agent "$TOWPATH_CACHE/image/towpath-agent" --cni "$TOWPATH_CACHE/image/towpath" --rounds "$rounds"
