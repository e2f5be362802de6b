# Two commands to start with: `make demo` and `make test`. Each sets up .venv by itself the first time.
#
#   make setup       .venv with everything to simulate, train and test
#   make demo        a ROS 2 policy node against the MuJoCo bridge; arguments through ARGS="--episodes 20"
#   make bench       the control tick against torch and JAX, the node, training, evaluation, and all targets (half an hour)
#   make test        ruff, mypy --strict and the quick tests
#   make test-all    the same with the slow tests, and with more examples of each property, others every time
#   make lint        ruff and mypy only
#   make mutants     the code broken on purpose, to see whether the tests notice; goes on where it was broken off (hours);
#                    ARGS="--areas loop --count 20" for some, "--report" for what is known, "--again" for survivors once more
#   make docs        the tables of docs/parameters.md anew, from the declarations in the code
#   make lock        constraints.txt anew, with the newest versions that setup.py allows
#   make clean       removes .venv and caches
#
# PYTHON=python3.12 picks the interpreter, RUNTIME=gpu installs onnxruntime-gpu instead of onnxruntime, PIP_ARGS=... goes
# to pip as it is, and JOBS=4 runs four files of tests at a time instead of two.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo bench test test-all lint mutants docs lock clean

VENV := .venv
BIN := $(VENV)/bin
RUNTIME ?= cpu
PYTHON ?=
PIP_ARGS ?=
JOBS ?= 2
ARGS ?=

# What decides whether an installation is still good.
INPUTS := setup.py setup.cfg pyproject.toml constraints.txt

PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt $(PIP_ARGS)

help:
	@sed -n 's/^#   //p' Makefile

# A Python counts when it runs, is 3.10 to 3.12 and can make environments (Debian splits `venv` off).
$(BIN)/python:
	@for candidate in $(or $(PYTHON),python3.11 python3.12 python3.10 python3 python); do \
	  if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then \
	    echo "setting up $(VENV) with $$("$$candidate" --version)"; \
	    exec "$$candidate" -m venv $(VENV); \
	  fi; \
	done; \
	echo "no Python 3.10, 3.11 or 3.12 with the venv module was found; install one (Debian, Ubuntu: apt install python3-venv) or name it: make PYTHON=/path/to/python3.12" >&2; \
	exit 1

# Order-only: a newer mtime of the interpreter (a link to the system's) must not install everything again.
$(VENV)/.demo-$(RUNTIME): $(INPUTS) | $(BIN)/python
	@echo "installing what the demo needs (once, a few minutes)"
	@$(PIP) --editable '.[$(RUNTIME),ros,sim,dashboard,camera]'
	@touch $@

$(VENV)/.test-$(RUNTIME): $(INPUTS) | $(BIN)/python
	@echo "installing what training and the tests need (once, a few minutes)"
	@$(PIP) --editable '.[$(RUNTIME),ros,sim,dashboard,train,analysis,record,film,camera,dev]'
	@touch $(VENV)/.demo-$(RUNTIME) $@

# Without them, the tests beside JAX and on a Ray cluster would be skipped.
$(VENV)/.all-$(RUNTIME): $(VENV)/.test-$(RUNTIME)
	@echo "installing JAX and Ray for the slow tests (once, a few minutes)"
	@$(PIP) --editable '.[$(RUNTIME),ros,sim,dashboard,train,analysis,record,film,camera,dev,peers,ray]'
	@touch $@

setup: $(VENV)/.test-$(RUNTIME)

demo: $(VENV)/.demo-$(RUNTIME)
	$(BIN)/qgf demo $(ARGS)

$(VENV)/.bench-$(RUNTIME): $(INPUTS) | $(BIN)/python
	@echo "installing what the benchmark needs (once, a few minutes)"
	@$(PIP) --editable '.[$(RUNTIME),ros,sim,train,analysis,camera,peers]'
	@touch $@

bench: $(VENV)/.bench-$(RUNTIME)
	$(BIN)/qgf benchmark tick --random 4x512,4x1024 --num-samples 1,16 --precisions fp32,int8 --peers $(ARGS)
	$(BIN)/qgf benchmark ros --threads 1 --executor events --rounds 10 --ticks 20
	$(BIN)/qgf benchmark evaluation --rounds 4
	$(BIN)/qgf benchmark training --peers --rounds 10
	$(BIN)/qgf benchmark growth --random 3x64 --denoising-steps 2 --threads 1 --growth-ticks 1000000
	$(BIN)/qgf benchmark cameras
	$(BIN)/qgf benchmark targets

lint: $(VENV)/.test-$(RUNTIME)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.test-$(RUNTIME)
	$(BIN)/python scripts/parameter_tables.py docs/parameters.md

# Each file keeps to one process, so that its fixtures are made once.
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

test: lint
	$(PYTEST) -m 'not slow' $(ARGS)

# What Hypothesis found once it keeps in .hypothesis and tries first the next time.
test-all: $(VENV)/.all-$(RUNTIME) lint
	$(PYTEST) --hypothesis-profile=explore $(ARGS)

mutants: $(VENV)/.test-$(RUNTIME)
	nice $(BIN)/python scripts/mutation $(ARGS)

LOCK := uv pip compile --universal --python-version 3.10 --all-extras --no-emit-index-url --no-annotate --no-header setup.py

lock: $(VENV)/.test-$(RUNTIME)
	@$(BIN)/$(LOCK) --upgrade --quiet --output-file $(VENV)/lock.txt
	@{ echo '# Versions for Python 3.10 to 3.12 and every extra of setup.py. `make lock` writes this file, with'; \
	   echo '#   $(LOCK)'; cat $(VENV)/lock.txt; } >constraints.txt

clean:
	rm -rf $(VENV) .mutants build install log .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
