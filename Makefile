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
