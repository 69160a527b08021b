#!/usr/bin/env bash
# What policies cost in the kernel of a node, against the same ones written by hand for nft -f, in turn on the same machine.
# Ends with an error where a bar is missed. All of it runs in namespaces that end with it.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

rounds=$(count_of ROUNDS 3 5 "${1:-}")
needs_root

step "rounds: $rounds"
cargo bench --quiet --locked -p towpath-kernel --bench policy -- "$rounds"

step "the agent, as it is shipped"
folder=$(shipped towpath-node-agent release)
step "the agent's memory"
cargo bench --quiet --locked --profile dev -p towpath-node-agent --bench policy_memory -- \
  "$folder/towpath-agent"
