# Read by the other scripts: where the caches are, and which versions of tools are used.

TOWPATH_CACHE=${TOWPATH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/towpath}
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$TOWPATH_CACHE/target}
export TOWPATH_CACHE CARGO_TARGET_DIR
export PATH="$TOWPATH_CACHE/tools/bin:$PATH:$HOME/.cargo/bin"

RUST_VERSION=1.95.0
CARGO_DENY_VERSION=0.20.2
CARGO_FUZZ_VERSION=0.13.2
DEBIAN_PACKAGES=(
  build-essential buildah busybox-static ca-certificates conntrack crun debootstrap git iproute2 iputils-ping kmod nftables
  podman procps python3-venv qemu-system-common runc xz-utils zstd
)
# The emulator of the guest that has the kernel features which not every machine has; its file server is a package of
# its own from Debian 13 on.
case "$(uname -m)" in
  aarch64) DEBIAN_PACKAGES+=(qemu-system-arm) ;;
  *) DEBIAN_PACKAGES+=(qemu-system-x86) ;;
esac
if [ "$(. /etc/os-release 2>/dev/null; echo "${VERSION_ID:-0}")" != 12 ]; then DEBIAN_PACKAGES+=(virtiofsd); fi

start=$SECONDS

# In bold, where somebody looks.
bold() {
  if [ -t 1 ]; then printf '\033[1m%s\033[0m\n' "$*"; else printf '%s\n' "$*"; fi
}

# A named step, with the time since the start.
step() {
  bold "$(printf '==> [%02d:%02d] %s' $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60)) "$*")"
}

# Ends with an error that says what to do.
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# How often a script does something: what it was given, or what is usual; an error where that is no number, or less than the least.
count_of() {
  local what=$1 least=$2 usual=$3 given=${4:-$3}
  [[ "$given" =~ ^[1-9][0-9]{0,8}$ && "$given" -ge "$least" ]] ||
    fail "usage: $0 [$what], where $what is $least or more ($usual otherwise), not '$given'"
  printf '%s' "$given"
}

needs_root() {
  [ "$(id -u)" -eq 0 ] || fail "network namespaces are made by root: run this as root"
}

# Builds a package as its program is shipped; tells the folder of that.
shipped() {
  local package=$1 profile=$2 target
  target=$(rustc -vV | sed -n 's/^host: //p')
  RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile "$profile" --locked --target "$target" -p "$package" || return
  printf '%s' "$CARGO_TARGET_DIR/$target/$profile"
}
