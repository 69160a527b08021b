#!/usr/bin/env bash
# Builds the static binaries, and puts them with the Containerfile into a folder that any image builder takes.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
context="$TOWPATH_CACHE/image"
step "build static binaries for $target"
export RUSTFLAGS="-C target-feature=+crt-static"
# Kernels for this processor have pages of up to 64 KiB, which the agent's allocator has to know when it is built.
case "$target" in aarch64-*) export JEMALLOC_SYS_WITH_LG_PAGE=16 ;; esac
cargo build --release --locked --target "$target" -p towpath-node-agent -p towpath-operator
cargo build --profile cni --locked --target "$target" -p towpath-cni
mkdir -p "$context"
for binary in release/towpath-agent release/towpath-operator cni/towpath; do
  install -m 755 "$CARGO_TARGET_DIR/$target/$binary" "$context/${binary#*/}"
done
install -m 644 Containerfile "$context/Containerfile"
step "the image's folder is $context"
