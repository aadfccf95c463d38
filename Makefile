# Every target sets itself up: a virtual environment in .venv with what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PHOTOS ?=
WEIGHTS ?=
CATALOG ?=
DEMO ?= birdsearch-demo

.PHONY: help demo index dev test test-photos check format docs docs-check bench soak wheel wheel-test clean
.DEFAULT_GOAL := help

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[cluster,fast]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run ## Render an archive of invented birds and try everything on it, offline: make demo [DEMO=folder]
	$(BIN)/birdsearch demo "$(DEMO)"

index: $(VENV)/.run ## Index a folder: make index PHOTOS=./archive [WEIGHTS=file] [CATALOG=folder]
	@test -n "$(PHOTOS)" || { echo "usage: make index PHOTOS=./archive [WEIGHTS=file.pt] [CATALOG=folder]" >&2; exit 2; }
	$(BIN)/birdsearch index "$(PHOTOS)" $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(CATALOG),--catalog "$(CATALOG)")

dev: $(VENV)/.dev ## Install everything that working on birdsearch needs

test: $(VENV)/.dev ## Run the tests, some at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not photos" -n auto --maxprocesses 4 --dist worksteal

test-photos: $(VENV)/.dev ## Run the tests on real photos that BIRDSEARCH_TEST_PHOTOS and _WEIGHTS name
	$(BIN)/python -m pytest -q -s -m photos

soak: $(VENV)/.dev ## Kill index runs 300 times instead of 30
	BIRDSEARCH_SOAK=1 $(BIN)/python -m pytest -q -s tests/indexer/test_kills.py

check: $(VENV)/.dev docs-check ## Lint, format check, types, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## Write docs/cli.md and docs/api.md from the code
	$(BIN)/python docs/generate.py

docs-check: $(VENV)/.dev
	$(BIN)/python docs/generate.py --check

bench: $(VENV)/.dev ## Measure; prints ratios
	$(BIN)/python benchmarks/run.py

wheel: $(VENV)/.dev ## Build the wheel into dist/
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist .

wheel-test: wheel ## Install the wheel into a clean environment elsewhere and use it there
	$(BIN)/python tests/wheel_smoke.py dist

clean: ## Remove what was built
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache *.egg-info
