#!/usr/bin/env bash
# What the compiler of policies costs for whole clusters, cold and per change, on one core, against the bars.
# Ends with an error where a bar is missed. It needs neither root nor a cluster.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

cargo bench --quiet --locked -p towpath-net --bench compile
