#!/usr/bin/env bash
# Installs what Towpath is built and tested with, where it is not there yet. Nothing is changed where all is there.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

[ "$(id -u)" = 0 ] || fail "the lab makes namespaces, mounts and cgroups: run this as root"
command -v apt-get >/dev/null || fail "this needs Debian's packages (apt-get): ${DEBIAN_PACKAGES[*]}"

missing=()
for package in "${DEBIAN_PACKAGES[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  step "install ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! cargo --version 2>/dev/null | awk -v want="$RUST_VERSION" '{split($2,a,"."); split(want,b,"."); exit !(a[1]>b[1] || a[1]==b[1] && a[2]>=b[2])}'; then
  step "install Rust $RUST_VERSION"
  if ! command -v rustup >/dev/null; then
    apt-get install -y -qq --no-install-recommends rustup >/dev/null 2>&1 ||
      fail "Rust $RUST_VERSION is needed and Debian has no rustup here: install it from https://rustup.rs and run this again"
  fi
  rustup toolchain install "$RUST_VERSION" --profile minimal --component clippy --component rustfmt
  rustup default "$RUST_VERSION"
fi
