# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH):/usr/sbin:/sbin
# Ansible finds this checkout as multiwan.linux, and leaves the home directory alone.
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.cache/collections
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible

# make demo: the topology and the firewall backend
DEMO ?= two-links
BACKEND ?= nftables

# make unit, make netns: what to give pytest, such as ARGS='-k pin -x'; make sanity: such as ARGS='--test pylint';
# make bench: such as ARGS='failover --quick'
ARGS ?=

# make sanity, make netns: another ansible-core than .venv's, one of tools/cores.txt, such as CORE=2.18
CORE ?=

# make molecule: one scenario instead of all
SCENARIO ?=

# make test: two at a time what does not mind, then what measures times, then what fills the machine by itself
STAGES := together traffic molecule

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 28

.PHONY: demo
demo: setup network ## Build a small Internet, run the playbook on the router in it, show that it works (root)
	@DEMO=$(DEMO) BACKEND=$(BACKEND) $(PYTHON) -m tests.lab.demo

.PHONY: test
test: setup linters promtool network servers containers ## Run all tests: lint docs unit netns sanity molecule (root)
	@for stage in $(STAGES); do \
	    echo "=== $$stage"; \
	    started=$$SECONDS; \
	    $(MAKE) --no-print-directory $$stage; \
	    echo "=== $$stage passed in $$((SECONDS - started)) s"; \
	done

.PHONY: lint
lint: setup linters ## Style, types, licences, changelog fragments
	ruff check
	ruff format --check
	mypy
	yamllint --strict .
	ansible-lint --nocolor -q
	git ls-files -z --cached --others --exclude-standard '*.sh' .ci/run | xargs -0 shellcheck
	antsibull-changelog lint
	antsibull-docs lint-collection-docs --plugin-docs .
	reuse lint --quiet || { reuse lint --lines; exit 1; }

.PHONY: format
format: setup ## Let ruff format the Python files and repair what it can
	ruff format
	ruff check --fix

.PHONY: unit
unit: setup promtool ## Unit and property tests
	$(PYTHON) -m pytest tests/unit $(ARGS)

IN_NETNS = $(if $(CORE),MWAN_CONTROLLER=$(CURDIR)/.cache/core/$(CORE)/bin/python) $(PYTHON) -m pytest --durations=10

.PHONY: netns
netns: setup network servers core ## Tests against the real kernel in network namespaces (root)
	$(IN_NETNS) tests/netns $(ARGS)

# The two halves of netns: what runs playbooks, and what is sensitive to load.
.PHONY: plays
plays: setup network servers core
	$(IN_NETNS) tests/netns/plays $(ARGS)

.PHONY: traffic
traffic: setup network servers core
	$(IN_NETNS) tests/netns --ignore=tests/netns/plays $(ARGS)

.PHONY: together
together:
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target plays lint docs unit sanity

.PHONY: sanity
sanity: setup linters core ## ansible-test sanity
	CORE=$(CORE) tools/sanity.sh $(ARGS)

.PHONY: molecule
molecule: setup containers ## All molecule scenarios in containers, or one: SCENARIO=failover (root)
	tools/molecule.sh $(SCENARIO)

.PHONY: bench
bench: setup network rivals ## Measure times, losses and rates; all of it, or ARGS='failover' (root)
	$(PYTHON) -m tests.bench $(ARGS)

.PHONY: setup
setup: # The virtual environment
	@tools/setup.sh venv

.PHONY: core
core: # The ansible-core of CORE
	@$(if $(CORE),tools/setup.sh core $(CORE))

.PHONY: linters
linters: # What lint and sanity run beside it
	@tools/setup.sh linters

.PHONY: promtool
promtool: # What checks docs/monitoring
	@tools/setup.sh promtool

.PHONY: network
network: # What namespaces take
	@tools/setup.sh network

.PHONY: servers
servers: # What tests run in namespaces beside that
	@tools/setup.sh servers

.PHONY: rivals
rivals: # What the benchmarks measure beside our own
	@tools/setup.sh rivals

.PHONY: containers
containers: # What molecule takes
	@tools/setup.sh containers

.PHONY: docs
docs: setup linters ## The site: guides, modules and the role, in docs/_build
	tools/docs.sh

.PHONY: build
build: setup ## Build the collection's archive from the committed tree, in .cache/build
	@tools/build.sh

.PHONY: update-constraints
update-constraints: setup ## Move what requirements-dev.txt needs in turn to its newest versions
	@tools/update-constraints.sh

.PHONY: clean
clean: ## Remove what these targets made here: .venv, .cache, the site and bytecode
	rm -rf $(VENV) .cache .ansible .hypothesis docs/_build tests/output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
