# Two commands matter: `make demo` and `make test`. Everything is installed into .venv.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MARKET := src/omnilytics/chain/artefacts/Market.json
ANVIL := 1.7.1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-core attacks test-slow test-processes test-long coverage campaign analyse devnet-tools fuzz lint types bench bench-load experiments clean

help:
	@echo "make demo       train a model through a market in one process (first run installs)"
	@echo "make test       run the tests"
	@echo "make test-core  attack the core: thousands of adversarial trials, one table; privacy by counting"
	@echo "make attacks    run the attacks again and record the table in docs/attacks.md"
	@echo "make test-slow  run the tests that take longer"
	@echo "make test-processes  run server processes on anvil, minutes"
	@echo "make test-long  run those that take longest, a quarter of an hour"
	@echo "make coverage   branch coverage of the core"
	@echo "make campaign   100,000 random calls of the contracts, checked against a model"
	@echo "make analyse    static analysers over the contracts"
	@echo "make devnet-tools  install anvil, a development chain, by npm"
	@echo "make fuzz       fuzz every decoder, guided by coverage (ARGS='--runs N')"
	@echo "make lint       format, lint and layer checks"
	@echo "make types      strict type checks"
	@echo "make bench      measure all work of a round; a minute (ARGS='--large --write')"
	@echo "make bench-load send one server process 200 submissions (needs anvil)"
	@echo "make experiments  the papers' experiments and the baselines, a quarter of an hour (ARGS=--quick: minutes)"
	@echo "make clean      remove what was built, keep the environment"

setup: $(MARKET)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "needs Python 3.11: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setup: creating $(VENV) and installing into it (a minute or two, 2 GB on disk)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(MARKET): $(STAMP) $(wildcard contracts/*.vy)
	@echo "setup: compiling the contract"
	@$(BIN)/python -m omnilytics.chain.compile
	@echo "setup: compiling the kernels (cached for later runs)"
	@$(BIN)/python -c "from omnilytics.algebra import kernels; kernels.warm_up()"
	@touch $@

demo: setup
	@$(BIN)/omnilytics demo $(ARGS)

test: setup
	@echo "test: unit, property, contract and end-to-end tests"
	@$(BIN)/pytest -q -n auto -m "not slow and not processes" --ignore=tests/attacks --ignore=tests/privacy $(ARGS)

test-core: setup
	@echo "test-core: attacks on the core and privacy tests"
	@$(BIN)/pytest -q -n auto tests/attacks tests/privacy $(ARGS)

attacks: setup
	@echo "attacks: the attack campaign, recorded in docs/attacks.md"
	@OMNILYTICS_ATTACK_TABLE=docs/attacks.md $(BIN)/pytest -q tests/attacks $(ARGS)

test-slow: setup
	@echo "test: the slower suites"
	@$(BIN)/pytest -q -n auto -m slow --ignore=tests/attacks --ignore=tests/privacy $(ARGS)

test-processes: setup devnet-tools
	@echo "test-processes: server processes on anvil: killed, lying, lost, starved; re-organised chains"
	@$(BIN)/pytest -q -n 2 --dist loadfile -m "processes and not long" tests/e2e $(ARGS)

test-long: setup devnet-tools
	@echo "test-long: ten rounds with a kill in each, two faults at once, chains that go back, devnets"
	@$(BIN)/pytest -q -m "processes and long" tests/e2e $(ARGS)

coverage: setup
	@echo "coverage: branches of algebra, sharing, validity, protocol; all must be taken"
	@$(BIN)/coverage run -m pytest -q -m "not slow" tests/simulation \
	  $(foreach area,algebra sharing validity protocol,$(wildcard tests/unit/test_$(area)_*.py tests/property/test_$(area)_*.py))
	@$(BIN)/coverage report

campaign: setup
	@echo "campaign: random interleavings of all calls against a model (OMNILYTICS_MACHINE_STEPS steps)"
	@OMNILYTICS_MACHINE_STEPS=$${OMNILYTICS_MACHINE_STEPS:-100000} $(BIN)/pytest -q -s -m slow tests/contract/test_contract_machine.py -k "agree or planted" $(ARGS)

analyse: setup
	@echo "analyse: static analysers over the contracts, each in its own environment (seven minutes)"
	@PYTHON=$(PYTHON) tools/analyse/run.sh

devnet-tools:
	@command -v npm >/dev/null || { echo "needs npm, which comes with Node.js (Debian: apt install npm)"; exit 1; }
	@echo "devnet-tools: installing anvil $(ANVIL) into .devnet"
	@npm install --silent --no-audit --no-fund --prefix .devnet @foundry-rs/anvil@$(ANVIL)

fuzz: setup
	@echo "fuzz: every decoder of outside bytes, inputs chosen by coverage (Atheris)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@$(BIN)/python tests/fuzz/run.py $(ARGS)

lint: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

types: setup
	@$(BIN)/mypy

bench: setup
	@echo "bench: all work of a round from 10,000 to 1,000,000 parameters (ARGS='--large --write')"
	@$(BIN)/python benchmarks/performance.py $(ARGS)

bench-load: setup devnet-tools
	@$(BIN)/python benchmarks/load.py $(ARGS)

experiments: setup
	@echo "experiments: accuracy with malicious owners (rows that are there are kept; ARGS=--fresh), baselines"
	@$(BIN)/python benchmarks/experiments/accuracy.py $(ARGS)
	@$(BIN)/python benchmarks/baselines/onchain.py
	@$(BIN)/python benchmarks/overhead.py

clean:
	rm -rf dist omnilytics-demo $(MARKET) .mypy_cache .ruff_cache .pytest_cache .hypothesis
