#!/usr/bin/env bash
# Random clusters and packets, judged by the text of the policies' APIs, and by what is compiled of it for every node.
# TOWPATH_SEED makes the same ones again.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

cases=$(count_of CASES 1 1000000 "${1:-}")

step "cases: $cases"
TOWPATH_CASES=$cases cargo test --quiet --release --locked -p towpath-net --test policy -- differential --nocapture
step "done"
