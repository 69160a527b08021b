#!/usr/bin/env bash
# How long a written policy takes until packets meet it, against nft -f by hand of the same change, in turn with it.
# Ends with an error where a bar is missed. It uses a lab of its own, of which nothing stays.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

rounds=${1:-100}
[[ "$rounds" =~ ^[1-9][0-9]*$ && "$rounds" -ge 10 ]] || fail "usage: scripts/bench-convergence.sh [ROUNDS], where ROUNDS is 10 or more (100 otherwise), not '$rounds'"
[ "$(id -u)" -eq 0 ] || fail "network namespaces are made by root: run this as root"

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
