#!/usr/bin/env bash
# Everything that can be judged without running Towpath.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

step "crates of every platform, for the checks that must not ask the network"
cargo fetch --locked --quiet
cargo fetch --locked --quiet --manifest-path fuzz/Cargo.toml

step "format"
cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check

step "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy --manifest-path fuzz/Cargo.toml --all-targets --locked -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

step "generated files are fresh"
cargo run --quiet --locked -p towpath-crds --bin crdgen -- --check

step "the domain and the CNI binary are free of runtimes"
for crate in towpath-net towpath-kernel towpath-cni; do
  tree=$(cargo tree --locked --package "$crate" --edges normal --prefix none --format '{p}')
  if found=$(grep -E '^(tokio|async-std|smol|kube|kube-[a-z]+|k8s-openapi|clap|anyhow|reqwest|hyper) v' <<<"$tree"); then
    fail "$crate must not depend on: $(tr '\n' ' ' <<<"$found")"
  fi
done

step "licences, sources and banned crates"
if ! cargo-deny --version 2>/dev/null | grep -qF " $CARGO_DENY_VERSION"; then
  step "install cargo-deny $CARGO_DENY_VERSION"
  CARGO_TARGET_DIR="$TOWPATH_CACHE/build/cargo-deny" cargo install cargo-deny --version "$CARGO_DENY_VERSION" --locked --quiet --root "$TOWPATH_CACHE/tools"
fi
for manifest in Cargo.toml fuzz/Cargo.toml; do
  cargo-deny --offline --log-level error --manifest-path "$manifest" --config deny.toml check licenses sources bans
done

step "files stay small, and nothing is left for later"
long=$(git ls-files '*.rs' | grep -vE '(^|/)tests(/|\.rs$)' | while read -r file; do
  lines=$(awk '/^#\[cfg\(test\)\]/ {exit} {n++} END {print n + 0}' "$file")
  [ "$lines" -le 400 ] || echo "$file has $lines lines without its tests; 400 are the most"
done)
[ -z "$long" ] || fail "$long"
later='TO''DO|FIX''ME|to''do!\(|unimpl''emented!\('
if found=$(git grep -nE "$later" -- ':!*.sum' ':!*.lock'); then fail "finish it or file it: $found"; fi
