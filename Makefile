# `make demo` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Of `make bench`: smoke (minutes) or full.
SIZE ?= smoke
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-fast chaos lint docs bench clean

demo: $(VENV)/.demo
	@exec $(BIN)/python -m example.demo

test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

test-fast: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

chaos: $(VENV)/.test
	$(BIN)/python -m tests.chaos --all --seeds 3 --results tests/chaos/results.json $(ARGS)
	$(BIN)/python -m tests.chaos.report tests/chaos/results.json docs/topics/chaos-table.inc
	CHAOS=full $(BIN)/python -m pytest tests/chaos/test_soak.py

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.compare --size $(SIZE) $(ARGS)
	$(BIN)/python -m pytest benchmarks/micro -p no:cacheprovider
	$(BIN)/python -m benchmarks.recovery
	$(BIN)/python -m benchmarks.stalled
	$(BIN)/python -m benchmarks.outbox
	$(BIN)/python -m benchmarks.report

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(PIP) -e '.[bench]'
	$(BIN)/python -m benchmarks.peers.environment
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) -e '.[lint]'
	@touch $@

$(VENV)/.docs: $(VENV)/.test
	$(PIP) -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) .demo docs/_build .pytest_cache .mypy_cache .ruff_cache
