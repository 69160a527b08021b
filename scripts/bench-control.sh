#!/usr/bin/env bash
# What agents cost an operator: how long an update takes to one and back, and what 5,000 take that are told of everything.
# It needs neither root nor a cluster.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

cargo bench --quiet --locked -p towpath-control --bench stream
