#!/usr/bin/env bash
# What many peers cost the agent, against ip -batch and bridge -batch of the same objects, in turn on the same machine.
# Ends with an error where a bar is missed. All of it runs in namespaces that end with it.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

rounds=$(count_of ROUNDS 3 5 "${1:-}")
needs_root

step "the agent, as it is shipped"
folder=$(shipped towpath-node-agent release)
step "rounds: $rounds"
cargo bench --quiet --locked --profile dev -p towpath-e2e --bench peers -- \
  --agent "$folder/towpath-agent" --rounds "$rounds"
