#!/usr/bin/env bash
# How long a written policy takes until packets meet it, against nft -f by hand of the same change, in turn with it.
# Ends with an error where a bar is missed. It uses a lab of its own, of which nothing stays.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

rounds=$(count_of ROUNDS 10 100 "${1:-}")
needs_root

step "what a lab is made of"
cargo build --quiet --locked -p towpath-e2e --bin lab
"$CARGO_TARGET_DIR/debug/lab" prepare >/dev/null
if [ -z "${TOWPATH_IMAGE_FOLDER:-}" ]; then
  scripts/image.sh
  export TOWPATH_IMAGE_FOLDER="$TOWPATH_CACHE/image"
fi
export TOWPATH_LAB_COMMAND="$CARGO_TARGET_DIR/debug/lab"
step "rounds: $rounds"
cargo bench --quiet --locked --profile dev -p towpath-e2e --bench convergence -- --rounds "$rounds"
