#!/usr/bin/env bash
# Brings up a three-node Kubernetes, installs Towpath in it as a user would, and shows pods talk to each other.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$(dirname "$0")/.."

lab="$CARGO_TARGET_DIR/debug/lab"
pod_image=registry.k8s.io/e2e-test-images/agnhost:2.63.0

kubectl() { "$lab" kubectl "$@"; }

# Runs a command in a pod, and shows it with what it answers.
show() {
  local pod=$1
  shift
  echo
  bold "\$ kubectl exec $pod -- $*"
  kubectl exec "$pod" -- "$@"
}

build() {
  step "build the lab and what it is made of (cold: 20 to 30 minutes on 2 cores; later: seconds)"
  cargo build --quiet --locked -p towpath-e2e --bin lab
  "$lab" prepare
  scripts/image.sh
}

up() {
  "$lab" down >/dev/null 2>&1 || true
  step "bring up a cluster of three nodes without a pod network"
  "$lab" up --nodes 3 --wire dual
  step "load Towpath's image into the nodes"
  "$lab" load-image --build "$TOWPATH_CACHE/image" --tag localhost/towpath:dev
}

install_towpath() {
  step "install Towpath: kubectl apply -k config/overlays/lab"
  kubectl apply --server-side -k config/overlays/lab
  kubectl wait --for=condition=Established crd/clusternetworks.towpath.dev crd/nodenetworks.towpath.dev --timeout=30s
  step "declare the network: kubectl apply -f config/samples/kindnet.yaml"
  kubectl apply --server-side -f config/samples/kindnet.yaml
  step "wait until it is: kubectl wait --for=condition=Ready clusternetwork/default"
  kubectl wait --for=condition=Ready clusternetwork/default --timeout=120s
  kubectl wait --for=condition=Ready node --all --timeout=60s
}

talk() {
  step "pods on two nodes, a Service by name, an address outside the cluster"
  for node in n1 n2; do
    kubectl run "on-$node" --image="$pod_image" --overrides="{\"spec\":{\"nodeName\":\"$node\"}}" -- netexec --http-port=8080
  done
  kubectl expose pod on-n2 --name=greeter --port=80 --target-port=8080
  kubectl wait --for=condition=Ready pod/on-n1 pod/on-n2 --timeout=60s
  kubectl -n kube-system rollout status deployment/coredns --timeout=60s
  local there
  there=$(kubectl get pod on-n2 -o jsonpath='{.status.podIP}')
  show on-n1 ping -c 2 "$there"
  show on-n1 curl -sSw '\n' "http://$there:8080/clientip"
  show on-n1 curl -sSw '\n' --retry 10 --retry-all-errors --retry-delay 1 http://greeter/hostname
  show on-n1 curl -sSw '\n' http://172.30.255.2:8080/clientip
}

tell() {
  step "the network"
  for kind in clusternetworks nodenetworks nodes; do
    echo
    bold "\$ kubectl get $kind"
    kubectl get "$kind"
  done
  cat <<EOF

The cluster keeps running. What to try next:

  export KUBECONFIG=/var/lib/towpath-lab/demo/kubeconfig
  export PATH=$("$lab" binary kubectl | xargs dirname):$(dirname "$lab"):\$PATH

  kubectl describe nodenetwork n1                  what the node is told, and what came of it
  kubectl explain clusternetwork.spec --recursive  every field
  lab enter n1 ip route                            enter a node
  lab enter n1 ip route delete 10.244.1.0/24       alter it by hand; it is back before you look:
  kubectl get nodenetwork n1 -o yaml               see status.drift
  kubectl -n towpath-system exec ds/towpath-agent -- /towpath-agent plan
  kubectl delete -k config/overlays/lab            remove Towpath: the nodes are as they were
  lab status                                       what runs, and what it takes

  make clean-demo                                  end it all
EOF
}

case "${1:-up}" in
  up)
    build
    began=$SECONDS
    up
    install_towpath
    talk
    took=$((SECONDS - began))
    tell
    step "done: $took seconds from no cluster to pods that answer"
    ;;
  down)
    [ -x "$lab" ] || fail "there is no demo to end: $lab was never built"
    "$lab" down
    ;;
  *) fail "usage: scripts/demo.sh [up|down]" ;;
esac
