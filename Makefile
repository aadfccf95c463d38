# Every target sets itself up: a virtual environment in .venv with what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NPM := tests/browser/node_modules/.bin
WEB := "search/service/gallery/*.{js,css,html}" "search/export/templates/*.{js,css}" eslint.config.mjs
PHOTOS ?=
WEIGHTS ?=
CATALOG ?=
DEMO ?= birdsearch-demo

.PHONY: help demo index dev test test-browser test-photos chromium check format docs docs-check bench soak wheel wheel-test clean
.DEFAULT_GOAL := help

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[cluster,fast,heic,raw,serve]'
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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not photos and not browser" -n auto --maxprocesses 4 --dist worksteal

test-browser: $(VENV)/.dev tests/browser/node_modules/.installed chromium ## Use the gallery in Chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m browser tests/browser

# Without npm the pages are not looked through for barriers, nor scripts checked, and both are said.
tests/browser/node_modules/.installed: tests/browser/package-lock.json
	@if command -v npm >/dev/null; then \
		npm ci --prefix tests/browser --ignore-scripts --no-audit --no-fund --loglevel=error; \
	else \
		echo "no npm: pages are not checked for accessibility, scripts and styles not for form and faults"; \
	fi
	@mkdir -p $(@D) && touch $@

chromium:
	@if command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; then \
		:; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "there is no Chromium: installing the system's with apt-get"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null || \
			echo "apt-get could not install it: the browser tests are skipped"; \
	else \
		echo "there is no Chromium: the browser tests are skipped; install the package chromium"; \
	fi

test-photos: $(VENV)/.dev ## Run the tests on real photos that BIRDSEARCH_TEST_PHOTOS and _WEIGHTS name
	$(BIN)/python -m pytest -q -s -m photos

soak: $(VENV)/.dev ## Repeat often what goes wrong seldom: 300 killed index runs, fresh starts, changed bytes
	BIRDSEARCH_SOAK=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s -n 2 tests/indexer/test_kills.py \
		tests/model/test_first_use.py tests/indexer/catalog/test_soundness.py

check: $(VENV)/.dev tests/browser/node_modules/.installed docs-check ## Lint, format check, types, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if [ -x $(NPM)/eslint ]; then \
		$(NPM)/prettier --log-level warn --check $(WEB) && $(NPM)/eslint search; \
	else \
		echo "no npm: scripts and styles are not checked"; \
	fi

format: $(VENV)/.dev tests/browser/node_modules/.installed ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@if [ -x $(NPM)/prettier ]; then $(NPM)/prettier --log-level warn --write $(WEB); fi

docs: $(VENV)/.dev ## Write the reference, cli.md and api.md, from the code into build/docs/
	$(BIN)/python docs/generate.py build/docs

docs-check: $(VENV)/.dev
	$(BIN)/python -m pytest -q tests/test_reference.py

bench: $(VENV)/.dev ## Measure; prints ratios
	$(BIN)/python benchmarks/run.py

wheel: $(VENV)/.dev ## Build the wheel into dist/
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist .

wheel-test: wheel ## Install the wheel into a clean environment elsewhere and use it there
	$(BIN)/python tests/wheel_smoke.py dist

clean: ## Remove what was built
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache *.egg-info
