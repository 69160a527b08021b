#!/usr/bin/env bash
# Random clusters and packets, judged by the text of the policies' APIs, and by what is compiled of it for every node.
# TOWPATH_SEED makes the same ones again.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

cases=${1:-1000000}
[[ "$cases" =~ ^[1-9][0-9]*$ ]] || fail "usage: scripts/test-policy.sh [CASES], where CASES is 1 or more (1000000 otherwise), not '$cases'"

step "cases: $cases"
TOWPATH_CASES=$cases cargo test --quiet --release --locked -p towpath-net --test policy -- differential --nocapture
step "done"
