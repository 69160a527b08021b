#!/usr/bin/env bash
# How long the CNI binary takes, against ptp, host-local and portmap of the reference plugins, in turn on the same machine.
# Ends with an error where a bar is missed. All of it runs in namespaces that end with it.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

rounds=$(count_of ROUNDS 5 50 "${1:-}")
needs_root

step "the CNI binary, as it is shipped"
folder=$(shipped towpath-cni cni)
step "rounds: $rounds"
cargo bench --quiet --locked --profile dev -p towpath-e2e --bench cni -- \
  --towpath "$folder/towpath" --rounds "$rounds"
