SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
export PYTHONDONTWRITEBYTECODE ?= 1

.PHONY: help
help: ## Show every target
	@grep -hE '^[a-zA-Z0-9_%-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-22s %s\n", $$1, $$2}'

##@ Environment
.PHONY: setup
setup: ## Make the development environment (.venv) from the hash-locked requirements
	@$(PYTHON) -m devcluster.sites venv

.PHONY: worker-site
worker-site: setup ## Install the worker's requirements (torch, ...) once; prints the folder for PYTHONPATH
	@$(PYTHON) -m devcluster.sites worker

.PHONY: lock
lock: setup ## Resolve requirements/*.in again into the hash-locked requirements/*.txt
	@$(PYTHON) -m devcluster.locks

##@ Cluster
.PHONY: tools cluster-up cluster-down cluster-purge cluster-status kubeconfig cluster-env
tools: ## Build the cluster's programs from pinned modules (minutes on a fresh machine, nothing after)
	@$(PYTHON) -m devcluster.binaries

cluster-up: ## Bring a cluster up: yours (KUBECONFIG), kind, or a node on this machine
	@$(PYTHON) -m devcluster.cluster up

cluster-down: ## Take it down, leaving nothing behind but cached binaries and images
	@$(PYTHON) -m devcluster.cluster down

cluster-purge: ## Take it down and drop its cached images too
	@$(PYTHON) -m devcluster.cluster purge

cluster-status: ## Show what runs
	@$(PYTHON) -m devcluster.cluster status

kubeconfig: ## Print the path of the cluster's kubeconfig
	@$(PYTHON) -m devcluster.cluster kubeconfig

cluster-env: ## Print shell assignments to reach the cluster: eval "$$(make -s cluster-env)"
	@$(PYTHON) -m devcluster.cluster env

##@ Images
.PHONY: images image-refs
images: ## Build all images and load them into the cluster
	@$(PYTHON) -m devcluster.images

images-%: ## Build and load one image: images-operator, images-worker, images-triton
	@$(PYTHON) -m devcluster.images $*

image-refs: ## Print the images' references: eval "$$(make -s image-refs)"
	@$(PYTHON) -m devcluster.images refs

##@ Generated files
.PHONY: generate verify test-chart
generate: setup ## Write the chart's CRDs, manifests/ and docs/reference/api.md again
	@.venv/bin/python -m hack.generate

verify: setup ## Fail if a generated file has drifted
	@.venv/bin/python -m hack.generate --check

test-chart: setup ## Test the chart: rendering, RBAC, install, upgrade and removal on a real API server
	@.venv/bin/python -m pytest -q tests/chart

##@ Demonstration and tests
.PHONY: demo demo-clean test test-unit test-integration test-worker test-triton test-e2e lint
demo: setup ## From nothing to a canary that answers: cluster, images, chart, MiniLM-L6, every promise checked
	@PYTHONPATH=operator:. .venv/bin/python -m demo.run

demo-clean: setup ## Remove what the demonstration made in the cluster
	@PYTHONPATH=operator:. .venv/bin/python -m demo.run clean

test: lint verify ## Every suite in turn, on a cluster of its own unless one is up; ends with one line of totals
	@.venv/bin/python -m tests.suites

test-unit: setup ## Test the pure rooms, the machinery and the command line
	@.venv/bin/python -m tests.suites unit

test-integration: setup ## Test the operator on a real API server
	@.venv/bin/python -m tests.suites integration

test-worker: setup ## Test compression on the real encoder
	@.venv/bin/python -m tests.suites worker

test-triton: setup ## Test the model repository on a real tritonserver
	@.venv/bin/python -m tests.suites triton

test-e2e: setup ## Test the whole path on a real node
	@.venv/bin/python -m tests.suites e2e

lint: setup ## Check style, types and the arrows between rooms
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && PYTHONPATH=operator .venv/bin/lint-imports --no-cache

##@ Benchmarks
BENCH ?= 200 1000
ROUNDS ?= 1
SEEDS ?= 5
.PHONY: bench-operator bench-floor bench-optimize bench-headline bench-tools bench-auto bench-decoder test-perf
bench-operator: setup ## Time BENCH objects at once on the operator and on a client without logic, ROUNDS times in turn, then a restart
	@set -e; for n in $(BENCH); do PYTHONPATH=operator:. .venv/bin/python -m tests.perf.bench both $$n --rounds $(ROUNDS); done

bench-floor: setup ## Time the client without logic alone
	@set -e; for n in $(BENCH); do PYTHONPATH=operator:. .venv/bin/python -m tests.perf.bench floor $$n --rounds $(ROUNDS); done

bench-decoder: setup ## Quantize SmolLM2-135M by each method and hold it against its fp32 graph: perplexity, latency of the next token
	@PYTHONPATH=operator:.:$$($(PYTHON) -m devcluster.sites worker) .venv/bin/python -m tests.perf.decoder

bench-optimize: setup ## Compress MiniLM-L6 on TREC-6 by each technique alone and together, SEEDS times; an hour, and goes on when stopped
	@PYTHONPATH=operator:.:$$($(PYTHON) -m devcluster.sites worker) .venv/bin/python -m tests.perf.optimize --seeds $(SEEDS) $(OPTIMIZE)

bench-headline: setup cluster-up images ## The same in the cluster, by the library's recipes, each seed served and asked; an hour, and goes on when stopped
	@PYTHONPATH=operator:.:$$($(PYTHON) -m devcluster.sites worker) .venv/bin/python -m tests.perf.headline --seeds $(SEEDS) $(HEADLINE)

bench-tools: setup ## Compare with optimum-onnx and Olive on MiniLM-L6, each in an environment of its own; an hour, and goes on when stopped
	@PYTHONPATH=operator:.:$$($(PYTHON) -m devcluster.sites worker) .venv/bin/python -m tests.perf.tools $(COMPARE)

bench-auto: setup ## Let auto compress MiniLM-L6 on TREC-6 against the library's recipes; half an hour, and goes on when stopped
	@PYTHONPATH=operator:.:$$($(PYTHON) -m devcluster.sites worker) .venv/bin/python -m tests.perf.auto $(AUTO)

test-perf: setup ## Count the writes of thirty objects, of idle seconds and of a restart
	@.venv/bin/python -m pytest -q tests/perf
