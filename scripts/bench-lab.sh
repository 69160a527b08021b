#!/usr/bin/env bash
# How long a warm lab takes from nothing to a first pod that answers over Towpath, and how much memory it has then.
# Ends with an error where the slowest run, or the largest, is above a bar.
set -euo pipefail
export LC_ALL=C
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

runs=$(count_of RUNS 1 5 "${1:-}")

bar_seconds=60
bar_mib=2048
export TOWPATH_LAB=spec-bench
lab="$CARGO_TARGET_DIR/debug/lab"
pod_image=registry.k8s.io/e2e-test-images/agnhost:2.63.0
columns=(up image install ready pod total MiB)
folder=$(mktemp -d)
table="$folder/table"
log="$folder/log"

# Nothing stays, whatever the outcome is; what the last run printed is shown where it failed.
finish() {
  local status=$?
  trap - EXIT
  if [ -x "$lab" ]; then "$lab" down >>"$log" 2>&1 || status=1; fi
  if [ "$status" -ne 0 ] && [ -s "$log" ] && [ ! -e "$folder/judged" ]; then
    printf 'error: the run did not come to its end; its last lines:\n' >&2
    tail -n 30 "$log" >&2
  fi
  rm -rf "$folder"
  exit "$status"
}

# Microseconds; `.` is the radix of this locale.
now() { printf '%s' "${EPOCHREALTIME/./}"; }

kubectl() { "$lab" kubectl "$@"; }

up() { "$lab" up --nodes 3 --wire dual; }

image() { "$lab" load-image --build "$TOWPATH_CACHE/image" --tag localhost/towpath:dev; }

install_towpath() {
  kubectl apply --server-side -k config/overlays/lab
  kubectl wait --for=condition=Established crd/clusternetworks.towpath.dev crd/nodenetworks.towpath.dev --timeout=30s
  kubectl apply --server-side -f config/samples/kindnet.yaml
}

ready() {
  kubectl wait --for=condition=Ready clusternetwork/default --timeout=120s
  kubectl wait --for=condition=Ready node --all --timeout=60s
}

# The API server asks the pod: over the wire, a node, and the pod network.
pod() {
  kubectl run first --image="$pod_image" -- netexec --http-port=8080
  kubectl wait --for=condition=Ready pod/first --timeout=60s
  local deadline=$((SECONDS + 30))
  until [ "$(kubectl get --raw /api/v1/namespaces/default/pods/first:8080/proxy/hostname)" = first ]; do
    [ "$SECONDS" -lt "$deadline" ] || fail "the first pod is Ready and does not answer"
  done
}

# Does the steps of one run, and adds a line of seconds and MiB to the table.
measure() {
  local begin last time row='' mib
  begin=$(now)
  last=$begin
  for action in up image install_towpath ready pod; do
    printf '%s:\n' "$action" >>"$log"
    "$action" >>"$log" 2>&1
    time=$(now)
    row+="$(seconds $((time - last))) "
    last=$time
  done
  # Memory is that of a whole cluster: DNS is part of it.
  kubectl -n kube-system rollout status deployment/coredns --timeout=60s >>"$log" 2>&1
  mib=$("$lab" status | sed -nE 's/^[0-9]+ processes, ([0-9]+) MiB in all.*/\1/p')
  [ -n "$mib" ] || fail "lab status tells no memory"
  printf '%s%s %s\n' "$row" "$(seconds $((last - begin)))" "$mib" >>"$table"
}

seconds() { awk -v us="$1" 'BEGIN {printf "%.1f", us / 1e6}'; }

show() { printf "%-8s%8s%8s%8s%8s%8s%8s%8s\n" "$@"; }

# A column's values, the smallest first.
sorted() { awk -v column="$1" '{print $column}' "$table" | sort -n; }

median() { sorted "$1" | awk '{v[NR] = $1} END {printf "%g\n", int(5 * (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) + 0.5) / 10}'; }

# One figure of each column.
every_column() { for column in $(seq ${#columns[@]}); do "$@" "$column"; done; }

minimum() { sorted "$1" | head -n 1; }

maximum() { sorted "$1" | tail -n 1; }

# Tells a figure against its bar; fails where it is above.
judge() {
  local what=$1 figure=$2 bar=$3 unit=$4
  if awk -v f="$figure" -v b="$bar" 'BEGIN {exit !(f <= b)}'; then
    printf 'met     %s: %s %s of %s %s\n' "$what" "$figure" "$unit" "$bar" "$unit"
  else
    printf 'MISSED  %s: %s %s, the bar is %s %s\n' "$what" "$figure" "$unit" "$bar" "$unit"
    return 1
  fi
}

trap finish EXIT
step "what a lab is made of, so that it is warm"
cargo build --quiet --locked -p towpath-e2e --bin lab
"$lab" prepare >/dev/null
scripts/image.sh
"$lab" down >"$log" 2>&1

step "runs: $runs; seconds by step, and the memory of all of the lab with its three nodes"
show run "${columns[@]}"
for run in $(seq "$runs"); do
  : >"$log"
  measure
  show "$run" $(tail -n 1 "$table")
  "$lab" down >>"$log" 2>&1
done
for figure in median minimum maximum; do
  show "$figure" $(every_column "$figure")
done

touch "$folder/judged"
step "the slowest and the largest run against the bars"
missed=0
judge "nothing to a first pod that answers" "$(maximum 6)" "$bar_seconds" s || missed=1
judge "memory with three nodes" "$(maximum 7)" "$bar_mib" MiB || missed=1
exit "$missed"
