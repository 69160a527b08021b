#!/usr/bin/env bash
# Every test: units, properties, namespaces, and the scenarios on real clusters. The host is the same before and after.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

step "units, properties and namespaces"
cargo test --workspace --exclude towpath-e2e --locked

scripts/image.sh
step "what a lab is made of"
cargo run --quiet --locked -p towpath-e2e --bin lab -- prepare --specs

step "scenarios on real clusters"
TOWPATH_IMAGE_FOLDER="$TOWPATH_CACHE/image" cargo test --locked -p towpath-e2e -- --test-threads=1 --nocapture
