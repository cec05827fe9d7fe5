# `make` alone lists the targets. Each builds .venv by itself if it is not there.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip

# One stamp for each layer of what is installed, redone when pyproject.toml changes.
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
DOCS := $(VENV)/.installed-docs
RECIPES := $(VENV)/.installed-recipes
BENCH := $(VENV)/.installed-bench

STARTER_PACKAGES := fonts-noto-color-emoji libraqm0 unicode-data espeak-ng libespeak-ng1 flite festival festvox-kallpc16k festvox-kdlpc16k wordnet-base librsvg2-bin nodejs npm
STARTER_COMMANDS := espeak-ng flite festival rsvg-convert node npm

.DEFAULT_GOAL := help
.PHONY: help demo test test-page coverage docs lint types format starter omni pretrain bench venv clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  Another interpreter than python3: make PYTHON=python3.12 test"
	@echo "  make starter needs, from Debian or Ubuntu:"
	@echo "    $(STARTER_PACKAGES)"

demo: $(RUNTIME) ## search a small gallery with text, image and speech; tables here, a report in demo/report.html
	@$(PY) -m multimodal demo

# A file of tests stays on one core, so that what its tests share is made once; each core runs torch on one thread.
# Files are started in the order of tests/conftest.py: the longest first.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: lint types ## lint, types and tests, as CI runs them
	$(PYTEST)

test-page: $(DEV) ## the web page in headless Chromium; needs chromium, node and npm (part of `make test` where they are)
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/page

# The floor is checked here and in CI. Tracing costs about 40 % more CPU time on Python 3.11, so `make test` does without.
coverage: $(DEV) ## tests again, with the share of lines that they execute
	$(PYTEST) --cov --cov-report=term --cov-fail-under=92

docs: $(DOCS) ## the documentation, into site/; a broken link or an undocumented public name is an error
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

lint: $(DEV) ## ruff: lint and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(DEV) ## mypy, strict
	$(PY) -m mypy -p multimodal

format: $(DEV) ## ruff: fix and format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

starter: $(RECIPES) ## make the data and train the shipped model again (hours on a CPU; resumes)
	@for command in $(STARTER_COMMANDS); do command -v $$command >/dev/null || missing="$$missing $$command"; done; \
	if [ -n "$$missing" ]; then \
	    echo "make starter needs these commands, which are not here:$$missing."; \
	    echo "On Debian or Ubuntu: sudo apt-get install $(STARTER_PACKAGES)"; \
	    exit 1; \
	fi >&2
	$(PY) -m recipes.starter

omni: $(RECIPES) ## train the network for scenes, charts and speech again (hours on a CPU; needs what starter needs; resumes)
	$(PY) -m recipes.omni

pretrain: $(RECIPES) ## towers from scratch: masked words, patches and frames, then pairs (hours on a CPU; resumes)
	$(PY) -m recipes.pretrain

bench: $(BENCH) ## measure side by side with other libraries (an hour or two; SMALL=--small for minutes)
	$(PY) -m benchmarks $(SMALL)

venv: $(DEV) ## everything a developer needs, in .venv

clean: ## remove what builds, tools and the demo wrote; .venv stays
	rm -rf build dist demo site .coverage* htmlcov *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/page/node_modules
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and .venv too
	rm -rf $(VENV)

$(RUNTIME): pyproject.toml | $(PY)
	@echo "Installing multimodal into $(VENV). The first time PyTorch is a download of some GB: several minutes."
	@$(PY) -c 'import pip' 2>/dev/null || $(PY) -m ensurepip
	$(PIP) install --editable .
	@touch $@

$(DEV): $(RUNTIME)
	$(PIP) install --editable '.[dev,all]'
	@touch $@

$(DOCS): $(RUNTIME)
	$(PIP) install --editable '.[docs]'
	@touch $@

$(RECIPES): $(RUNTIME)
	$(PIP) install --editable '.[recipes]'
	@touch $@

$(BENCH): $(RUNTIME)
	$(PIP) install --editable '.[bench]'
	@touch $@

# --clear: where bin/python is missing or points nowhere, whatever else is there is of no use.
$(PY):
	@command -v $(PYTHON) >/dev/null || { \
	    echo "multimodal needs Python 3.11 or newer; there is no $(PYTHON) here. Name yours: make PYTHON=python3.12 …"; \
	    exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "multimodal needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Name another: make PYTHON=python3.12 …"; \
	    exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) cannot make a virtual environment: it lacks venv or ensurepip."; \
	    echo "On Debian or Ubuntu: sudo apt-get install python3-venv"; \
	    exit 1; } >&2
	$(PYTHON) -m venv --clear $(VENV)
