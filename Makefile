.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
STAMP := .venv/.setup-done
BENCH_STAMP := .venv-bench/.setup-done
FUZZ_STAMP := .venv-fuzz/.setup-done
# Servers are started per test process: more of them than this gains nothing.
WORKERS ?= 4
ARGS ?=
# The suite starts thousands of interpreters: each would compile all that it imports anew.
export PYTHONDONTWRITEBYTECODE :=
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--no-emit-index-url --custom-compile-command "make lock"

.PHONY: help setup demo test check lint types contracts format fuzz bench bench-features lock clean

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## Make .venv with everything in it (uv when present, else venv and pip)

$(STAMP): pyproject.toml requirements/dev.txt scripts/setup.sh
	@scripts/setup.sh .venv requirements/dev.txt --project
	@touch $@

demo: $(STAMP) ## Run the main job on real input (DEMO_EXIT=1: always ends by itself)
	@$(BIN)/python -m examples.stdlib_index $(ARGS)

test: $(STAMP) ## Run the whole suite in parallel with coverage (ARGS="tests/unit -k name": only that, no coverage)
ifeq ($(strip $(ARGS)),)
	@$(BIN)/python -m compileall -q tests -x malformed
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --cov --cov-fail-under=85
else
	@$(BIN)/python -m pytest $(ARGS)
endif

check: lint types contracts ## Run lint, types and contracts

lint: $(STAMP) ## Ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP) ## mypy --strict everywhere, pyright on what users see
	@$(BIN)/mypy
	@$(BIN)/pyright

contracts: $(STAMP) ## Import contracts
	@$(BIN)/lint-imports --no-cache

format: $(STAMP) ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# schemathesis and what it wants stay apart from what users install beside Conveyor.
fuzz: $(STAMP) $(FUZZ_STAMP) ## Fuzz a running console as every role (ARGS="--store redis --examples 100 --seed 7")
	@$(BIN)/python -m tests.console.fuzzing $(ARGS)

$(FUZZ_STAMP): requirements/fuzz.txt scripts/setup.sh
	@scripts/setup.sh .venv-fuzz requirements/fuzz.txt
	@touch $@

# The peers want other versions of our drivers: they live apart, and Conveyor runs from its own environment.
# One of them (oban) wants Python 3.12, so a newer Python is preferred for them where there is one.
bench: $(STAMP) $(BENCH_STAMP) ## Run the benchmarks against the peers (ARGS are passed on)
	@BENCH_PYTHON_CONVEYOR=$(CURDIR)/$(BIN)/python .venv-bench/bin/python benchmarks/run.py $(ARGS)

bench-features: $(STAMP) ## Measure what limits, schedules, workflows and transactions cost
	@$(BIN)/python -m benchmarks.features $(ARGS)

$(BENCH_STAMP): requirements/bench.txt scripts/setup.sh
	@PYTHON="$${PYTHON:-python3.12 python3.13 python3}" scripts/setup.sh .venv-bench requirements/bench.txt
	@touch $@

lock: $(STAMP) ## Refresh the hashed locks (ARGS=--upgrade moves every version)
	@$(LOCK) pyproject.toml --all-extras --group dev --output-file requirements/dev.txt $(ARGS)
	@$(LOCK) pyproject.toml --all-extras --constraint requirements/dev.txt --output-file requirements/runtime.txt $(ARGS)
	@$(LOCK) requirements/audit.in --output-file requirements/audit.txt $(ARGS)
	@$(LOCK) requirements/fuzz.in --output-file requirements/fuzz.txt $(ARGS)
	@$(LOCK) requirements/bench.in --output-file requirements/bench.txt $(ARGS)

clean: ## Remove caches, coverage data and build output (the environments stay)
	@rm -rf .coverage .coverage.* htmlcov .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	@find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
