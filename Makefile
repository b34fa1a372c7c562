# Everything a person runs. `make demo` and `make test` do their whole set-up on a fresh machine with
# Python 3.11+, a Rust toolchain and make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST_SOURCES := $(shell find rust -name '*.rs' -o -name '*.toml' -o -name '*.cedar*' -o -name '*.sql' 2>/dev/null) Cargo.toml Cargo.lock .cargo/config.toml

.PHONY: help demo test check bench build wheel sandbox fmt clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev 'docker>=7.2,<8'
	touch $@

$(VENV)/.built: $(VENV)/.dev $(RUST_SOURCES) pyproject.toml
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --quiet --profile ci
	touch $@

build: $(VENV)/.built ## the native core, into .venv

demo: build ## the product in one minute, on the bundled files
	$(BIN)/symbi demo

test: build ## every test: Rust, Python, real sandboxes where they are there
	ci/test

check: build ## formatting, lints, types, the taste of the tree
	ci/check

bench: $(VENV)/.dev ## measure (release build); BENCH="decide --quick" to choose
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --quiet --release
	rm -f $(VENV)/.built
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/symbi bench $(BENCH)

wheel: $(VENV)/.dev ## the wheel, into dist/
	$(BIN)/maturin build --quiet --release --out dist

sandbox: ## install gVisor and register it with Docker (root, Debian)
	ci/setup-sandbox

fmt: $(VENV)/.dev ## format Rust and Python
	cargo fmt --all
	$(BIN)/ruff format python tests ci docs
	$(BIN)/ruff check --fix --quiet python tests ci docs

clean:
	rm -rf target dist $(VENV) python/symbi/_core*.so
