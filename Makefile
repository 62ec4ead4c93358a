# `make demo` and `make test` each work alone on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup test test-pythons test-kills fuzz check docs demo format clean

FUZZ_CASES ?= 1000
FUZZ_SEED ?= 1
FUZZ_GROUP ?= all

# Torch alone and first, without its GPU libraries where no GPU is: a bounded range takes the CPU build if one is at hand.
$(VENV)/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

setup: $(VENV)/ready

# Each core runs tests by itself, on one thread: two of several threads each would wait for one another.
test: $(VENV)/ready
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n auto --dist worksteal

# A built wheel in a fresh environment of every other supported Python at hand; minutes and gigabytes for each.
test-pythons: $(VENV)/ready
	$(BIN)/python tests/pythons.py

# A batch over 40 odd files, killed ten times, against one left alone; minutes.
test-kills: $(VENV)/ready
	$(BIN)/python tests/kills.py
	$(BIN)/python tests/prepare_kills.py --ways local shards

# Damaged inputs of all kinds; how to run one of them again is printed with each that fails.
fuzz: $(VENV)/ready
	PYTHONPATH=tests $(BIN)/python -m fuzz --cases $(FUZZ_CASES) --seed $(FUZZ_SEED) --group $(FUZZ_GROUP)

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir build/site

# The documentation as a site, to be served from any folder; `$(BIN)/python -m mkdocs serve` shows it while it is written.
docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(VENV)/ready
	$(BIN)/python examples/demo.py $(if $(VIDEO),"$(VIDEO)")

clean:
	rm -rf $(VENV) out build dist site
