# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
.PHONY: help demo test check fuzz setup image generate clean-demo bench-lab bench-cni bench-peers bench-throughput bench-healing bench-policy bench-control bench-policy-compile bench-convergence test-policy
.DEFAULT_GOAL := help

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: setup ## Bring up a real three-node cluster that is networked by one ClusterNetwork, and leave it running
	@scripts/demo.sh

clean-demo: ## End the demo, and leave nothing of it
	@scripts/demo.sh down

test: setup ## Run all checks and tests
	@scripts/check.sh
	@scripts/test.sh

test-policy: setup ## Try a million random clusters and packets against what the policies' text says; CASES says how many
	@scripts/test-policy.sh $(CASES)

check: setup ## Run the checks alone
	@scripts/check.sh

bench-lab: setup ## Measure a warm lab up to a first pod that answers, and its memory, against the bars
	@scripts/bench-lab.sh

bench-cni: setup ## Measure the CNI binary against the reference plugins, and against the bars
	@scripts/bench-cni.sh

bench-peers: setup ## Measure what many peers cost the agent against ip -batch, and against the bars
	@scripts/bench-peers.sh

bench-throughput: setup ## Measure what a connection between pods carries, against links made by hand
	@scripts/bench-throughput.sh

bench-healing: setup ## Alter 100,000 things of a node at random, and measure how long their repair takes
	@scripts/bench-healing.sh

bench-policy: setup ## Measure what policies cost in the kernel of a node against nft -f, and against the bars
	@scripts/bench-policy.sh

bench-control: setup ## Measure what agents cost an operator: updates there and back, and memory
	@scripts/bench-control.sh

bench-policy-compile: setup ## Compile the policies of whole clusters, cold and change by change, against the bars
	@scripts/bench-policy-compile.sh

bench-convergence: setup ## Measure how long a written policy takes until packets meet it, against nft -f
	@scripts/bench-convergence.sh

fuzz: setup ## Fuzz everything that reads input from outside; TOWPATH_FUZZ_SECONDS says how long each
	@scripts/fuzz.sh

image: setup ## Build the static binaries, ready for an image builder
	@scripts/image.sh

generate: ## Write generated files anew
	cargo run --quiet -p towpath-crds --bin crdgen

setup: ## Install what is missing to build and test
	@scripts/setup.sh
