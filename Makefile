# Everything from a fresh clone: `make` says what there is. The environment lives in .venv, the compiled core in build/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# The first Python of at least 3.11, unless PYTHON names one.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  command -v $$p > /dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
CORE := $(shell find core -path core/tests -prune -o \( -name '*.cpp' -o -name '*.hpp' \) -print) CMakeLists.txt pyproject.toml
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# More arguments for pytest, the demonstration or a benchmark: make test ARGS="-k engine -x"
ARGS ?=

.PHONY: help build test demo lint format bench bench-peers bench-engine bench-learning bench-service bench-scaling docs openapi core-test clean distclean

help:  ## this list
	@echo "Cipherlens: image classifiers on encrypted images. Targets:"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  \1\t/' | expand -t 20
	@echo "More arguments go into ARGS: make test ARGS=\"-k engine\""

# ---- set-up: each step is done again only when what it depends on has changed ----------------------------------

# One line says how to install whatever is missing; nothing is installed outside .venv.
$(VENV)/pyvenv.cfg:
	@missing=()
	if [ -z "$(PYTHON)" ]; then missing+=(python3)
	else
	  $(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || missing+=(python3-venv)
	  $(PYTHON) -c 'import pathlib, sysconfig, sys; sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())' \
	    || missing+=(python3-dev)
	fi
	command -v "$${CXX:-c++}" > /dev/null || missing+=(g++)
	if [ $${#missing[@]} -gt 0 ]; then
	  [ -n "$(PYTHON)" ] || echo "Cipherlens needs Python 3.11 or newer." >&2
	  echo "Something is missing here. Install it with:  sudo apt-get install $${missing[*]}" >&2
	  exit 1
	fi
	echo "creating $(VENV) with $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)

# What builds the core goes into the environment itself, so that changing a source compiles only that source.
$(VENV)/.build-tools: $(VENV)/pyvenv.cfg pyproject.toml
	@echo "installing what builds the core"
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], "cmake>=3.20", "ninja", sep="\n")' > $@.txt
	$(PIP) install -r $@.txt
	mv $@.txt $@

$(VENV)/.built: $(VENV)/.build-tools $(CORE)
	@echo "compiling the core and installing everything else (a minute or two the first time)"
	$(PIP) install --no-build-isolation --editable '.[dev]'
	touch $@

.ONESHELL:

build: $(VENV)/.built  ## the environment, the compiled core and all packages

# Programs that some tests need beside the environment: installed for root, and otherwise those tests skip by name.
$(VENV)/.system: $(VENV)/pyvenv.cfg
	@missing=()
	command -v chromium > /dev/null || missing+=(chromium)
	compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null || command -v initdb > /dev/null || missing+=(postgresql)
	if [ $${#missing[@]} -gt 0 ] && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
	  echo "installing $${missing[*]}"
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}"; } > $@.log 2>&1 \
	    || echo "that did not work ($@.log says why): tests that need it are skipped" >&2
	fi
	touch $@

# ---- what to do with it ------------------------------------------------------------------------------------------

test: build $(VENV)/.system  ## all tests
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

demo: build  ## train a cat classifier on encrypted photographs, and show who saw what
	@$(BIN)/cipherlens demo --out demo-output $(ARGS)

lint: build  ## ruff and mypy, without changing anything
	@$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: build  ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-engine bench-learning  ## both benchmarks

bench-peers: build  ## environments with the peer libraries, for bench-engine
	@$(BIN)/python benchmarks/peers/setup.py $(ARGS)

bench-engine: build  ## the engine beside its peers
	@$(BIN)/python benchmarks/engine.py $(ARGS)

bench-learning: build  ## training and classifying, encrypted and in the clear
	@$(BIN)/python benchmarks/learning.py $(ARGS)
	$(BIN)/python benchmarks/page.py

bench-service: build  ## the service beside the file workflow, and under load
	@$(BIN)/python benchmarks/service.py $(ARGS)

bench-scaling: build  ## training on one local node and on two
	@$(BIN)/python benchmarks/scaling.py --measure $(ARGS)

docs: build  ## docs/ as a site of pages under site/, all links checked
	@$(BIN)/mkdocs build --strict --quiet

openapi: build  ## write docs/openapi.json anew, after a change of the service's interface
	@$(BIN)/python -m cipherlens.service.openapi docs/openapi.json

core-test: build  ## the core's own test on this machine and under AArch64 emulation
	@tools/test_aarch64.sh

clean:  ## remove what was built, but not the environment
	@rm -rf build site demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis $(VENV)/.built
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean  ## remove the environments too
	@rm -rf .venv .venv-*
