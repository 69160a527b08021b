#!/usr/bin/env bash
# How much a connection between pods carries, against links that were made by hand, in turn on the same machine.
# Ends with an error where a bar is missed. All of it runs in namespaces that end with it.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

rounds=$(count_of ROUNDS 20 200 "${1:-}")
needs_root

scripts/image.sh
step "rounds: $rounds"
cargo bench --quiet --locked --profile dev -p towpath-e2e --bench throughput -- \
  --agent "$TOWPATH_CACHE/image/towpath-agent" --cni "$TOWPATH_CACHE/image/towpath" --rounds "$rounds"
