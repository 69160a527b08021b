#!/usr/bin/env bash
# Alters what a node has of Towpath, one thing after the other and at random, and measures how long each repair takes.
# Ends with an error where one is not repaired, where something of others changed, or where the bar is missed.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

count=$(count_of ALTERATIONS 1 100000 "${1:-}")
needs_root

scripts/image.sh
step "alterations: $count"
TOWPATH_IMAGE_FOLDER="$TOWPATH_CACHE/image" TOWPATH_ALTERATIONS="$count" TOWPATH_BAR_MS=1000 \
  cargo test --quiet --locked -p towpath-e2e --test guest whatever_is_altered -- --nocapture
