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
