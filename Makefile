# `make demo` and `make test` need only make and Python >= 3.11; both build .venv on first use.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(firstword $(foreach python,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(python) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(python))))

.DEFAULT_GOAL := help
.PHONY: help install demo test check ladder truth benchmark clean

help:
	@echo "make demo       install into $(VENV) and show AlexNet, predicted beside measured"
	@echo "make test       ruff, mypy, the test suite and the examples"
	@echo "make check      ruff and mypy alone"
	@echo "make ladder     every step between two levels, for every component; writes docs/ladder.md"
	@echo "make truth      every component against Monte Carlo on the full grid; writes docs/truth.md"
	@echo "make benchmark  what measuring, predicting and the quick verbs cost, beside what was asked"
	@echo "make clean      remove $(VENV) and everything built"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt hatch_build.py
	@if [ -z "$(PYTHON)" ]; then \
		echo "lensnet needs Python 3.11 or newer; found: $$(python3 --version 2>&1 || echo none)."; \
		echo "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 2; fi
	$(PYTHON) -m venv $(VENV)
	@# Modules are compiled when first imported: compiling all that torch brings takes longer than the rest.
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[dev]"
	@touch $@

# Status 1 (some rows deviate) and 4 (undecided or out of regime) are results, not failures of the demonstration.
demo: $(STAMP)
	@$(BIN)/lensnet run specs/alexnet.yaml || { status=$$?; [ $$status -eq 1 ] || [ $$status -eq 4 ] || exit $$status; }

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

# The examples are tests too (tests/examples). One torch thread per worker: tests/conftest.py.
test: check
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

ladder: $(STAMP)
	$(BIN)/python -m tests.ladder --write docs/ladder.md

truth: $(STAMP)
	$(BIN)/python -m tests.truth --write docs/truth.md

benchmark: $(STAMP)
	@for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
