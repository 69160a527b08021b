#!/usr/bin/env bash
# Fuzzes everything that reads input from outside: each target for TOWPATH_FUZZ_SECONDS (10), or those that are named.
# What is found that is new to the fuzzer stays in the cache, and is where the next run begins.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

seconds=${TOWPATH_FUZZ_SECONDS:-10}
# Instrumented and plain builds share nothing.
export CARGO_TARGET_DIR="$TOWPATH_CACHE/fuzz/target"
finds="$TOWPATH_CACHE/fuzz/finds"
failures="$TOWPATH_CACHE/fuzz/failures"
mkdir -p "$failures"

if ! cargo-fuzz --version 2>/dev/null | grep -qF " $CARGO_FUZZ_VERSION"; then
  step "install cargo-fuzz $CARGO_FUZZ_VERSION"
  CARGO_TARGET_DIR="$TOWPATH_CACHE/build/cargo-fuzz" cargo install cargo-fuzz --version "$CARGO_FUZZ_VERSION" --locked --quiet --root "$TOWPATH_CACHE/tools"
fi

mapfile -t targets < <(if [ $# -gt 0 ]; then printf '%s\n' "$@"; else basename -s .rs fuzz/fuzz_targets/*.rs; fi)
for target in "${targets[@]}"; do
  [ -f "fuzz/fuzz_targets/$target.rs" ] || fail "there is no target $target; there are: $(basename -s .rs fuzz/fuzz_targets/*.rs | tr '\n' ' ')"
done

# Coverage needs no nightly compiler. A sanitizer would: it looks for what safe code cannot do.
step "build ${#targets[@]} targets"
cargo fetch --quiet --locked --manifest-path fuzz/Cargo.toml
triple=$(rustc -vV | sed -n 's/^host: //p')
cargo fuzz build --fuzz-dir fuzz --sanitizer none --target "$triple" 2>"$failures/build.log" || fail "$(cat "$failures/build.log")"
built="$CARGO_TARGET_DIR/$triple/release"

# One target, and the end of what it said.
fuzz() {
  local target=$1 log="$failures/$1.log"
  mkdir -p "$finds/$target"
  if ! "$built/$target" "$finds/$target" "fuzz/corpus/$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 \
    -artifact_prefix="$failures/$target-" >"$log" 2>&1; then
    grep -vE '^(INFO|#|NOTE|MS:|0x|Base64)' "$log" | head -20
    return 1
  fi
  printf '  %-12s %s\n' "$target" "$(grep -oE 'stat::number.*|^#[0-9]+\s+DONE.*' "$log" | tail -1)"
}

step "fuzz each for $seconds s, $(nproc) at once"
running=()
failed=()
collect() {
  wait "${running[0]#*:}" || failed+=("${running[0]%%:*}")
  running=("${running[@]:1}")
}
for target in "${targets[@]}"; do
  [ ${#running[@]} -lt "$(nproc)" ] || collect
  fuzz "$target" &
  running+=("$target:$!")
done
while [ ${#running[@]} -gt 0 ]; do collect; done
[ ${#failed[@]} -eq 0 ] ||
  fail "inputs that break ${failed[*]} are in $failures: put each into fuzz/corpus/TARGET under a name that tells what it is, and mend what it breaks"
