# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Exported, or the shells of the recipes would not see them
export HOMELAB_GPU_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/homelab-gpu
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/collections
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONDONTWRITEBYTECODE := 1

COLLECTION := collections/ansible_collections/homelab/gpu
PYTHON_FILES = $(shell git ls-files --cached --others --exclude-standard -- '*.py')
TYPED_FILES = $(foreach file,$(PYTHON_FILES),$(if $(or $(filter test_% conftest.py,$(notdir $(file))),$(filter $(COLLECTION)/tests/%,$(file))),,$(file)))
UNIT_TESTS = $(wildcard $(COLLECTION)/tests/unit lab demo benchmarks tools)
STEPS := python3 tools/steps.py --timings $(HOMELAB_GPU_CACHE)/timings.json

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2} /^## / {printf "\n%s\n", substr($$0, 4)}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what is missing: Debian packages (as root) and the Python environment
	@tools/setup.sh

.venv:
	@tools/setup.sh

## The two commands

.PHONY: demo
demo: ## From nothing to a model's answer out of a cluster on this machine
	@command -v python3 >/dev/null || tools/setup.sh
	@$(STEPS) --title demo setup=90='make setup' lab-up=400='make lab-up' site=90='make site' demo=60='make demo-deploy'

.PHONY: test
test: ## Everything that CI runs
	@command -v python3 >/dev/null || tools/setup.sh
	@$(STEPS) --title test setup=90='make setup' lint=30='make lint' typecheck=20='make typecheck' docs=10='make docs' build=20='make build' sanity=30='make sanity' \
	  go-test=120='make go-test' tests=900='make tests'

## The lab: a cluster's hosts on this machine

.PHONY: lab-up
lab-up: .venv ## Make the hosts and, if needed, build the cluster's software
	@ansible-playbook lab/up.yml

.PHONY: lab-down
lab-down: .venv ## Remove this checkout's hosts, and nothing else
	@ansible-playbook lab/down.yml

.PHONY: lab-status
lab-status: .venv ## Show the hosts of the lab
	@test -x .lab/podman || { echo 'There is no lab of this checkout. Make one: make lab-up'; exit 0; }; .lab/podman ps --all

.PHONY: diagnose
diagnose: .venv ## Print journals, events and descriptions of what is not well
	@ansible-playbook molecule/shared/diagnose.yml

.PHONY: site
site: .venv ## Make the lab's hosts a cluster (again: changes nothing)
	@ansible-playbook playbooks/site.yml

.PHONY: status
status: .venv ## Show the cluster: hosts, nodes, pods
	@ansible-playbook playbooks/status.yml

.PHONY: ping
ping: .venv ## Ask every host and the cluster for an answer
	@ansible-playbook playbooks/ping.yml

.PHONY: demo-deploy
demo-deploy: .venv # The demo's last step, on a cluster that is up
	@ansible-playbook demo/demo.yml

.PHONY: demo-down
demo-down: .venv ## Remove the demo and the lab
	@ansible-playbook lab/down.yml

## Gates: what `make test` runs, one by one

.PHONY: lint
lint: .venv ## ruff, yamllint, ansible-lint, shellcheck
	ruff check .
	ruff format --check .
	yamllint -s .
	shellcheck $$(git ls-files --cached --others --exclude-standard -- '*.sh' .ci/run lab/gpu/host/mock-gpu lab/gpu/host/mock-gpu-overlay)
	ansible-lint

.PHONY: typecheck
typecheck: .venv ## mypy over plugins, lab and tools
	@mypy $(TYPED_FILES)

.PHONY: unit
unit: .venv ## Python unit tests
	pytest $(UNIT_TESTS)

.PHONY: go-test
go-test: .venv ## vet and test the lab's Go modules
	tools/go-test.sh

.PHONY: sanity
sanity: .venv ## ansible-test sanity
	tools/sanity.sh

.PHONY: docs
docs: .venv ## Documentation and changelog of the collection
	cd $(COLLECTION) && antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=dependent --disallow-unknown-collection-refs \
	  --check-extra-docs-refs .
	cd $(COLLECTION) && antsibull-changelog lint

.PHONY: build
build: .venv ## Build the collection and import it as Galaxy would
	tools/build-collection.sh

.PHONY: molecule
molecule: .venv ## Scenarios on the lab's hosts
	pytest tests/system

.PHONY: tests
tests: .venv # Unit tests, those that make labs included, then scenarios, in one run whose last line sums up
	@HOMELAB_GPU_LAB_TESTS=1 pytest $(UNIT_TESTS) tests/system

.PHONY: bench
bench: .venv ## Measure on a lab made anew, and write docs/performance.md
	python3 -m benchmarks all

.PHONY: clean
clean: ## Remove what tools left in the checkout (not the lab, not the cache)
	rm -rf dist junit .timeline .ansible .mypy_cache .pytest_cache .ruff_cache $(COLLECTION)/tests/output $(COLLECTION)/.ansible
	find . -name __pycache__ -type d -not -path './.lab/*' -prune -exec rm -rf {} +
