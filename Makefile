# Needs Python 3.11 or newer, git and make; everything else is installed into .venv, once.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
# The runs on whole data sets are not about speed; they take arguments and hours.
BENCHMARKS = $(filter-out benchmarks/published/%,$(wildcard benchmarks/[a-z]*.py benchmarks/*/__main__.py))

# Several processes share the cores (Ray's workers, DVC's stages): one thread each, unless a recipe asks for more.
export OMP_NUM_THREADS ?= 1
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION := false
export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help install tour test check bench docs ui clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\): .*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-9s %s\n", $$1, $$2 }'

install: $(READY)  ## make the environment; every other target does it first

$(READY): pyproject.toml infra/constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 ...")'
	@echo "installing into $(VENV): a few minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -qq -c infra/constraints.txt -e '.[dev]'
	@touch $@

tour: $(READY)  ## train one model of each kind on real digits, evaluate, register, report
	dvc repro tour
	@echo
	@echo "the report: $(CURDIR)/report/tour/report.html"
	@echo "the runs:   make ui"

test: $(READY)  ## the quick tests
	python -m pytest -m "not slow"

check: $(READY)  ## all that a change must pass: format, lint, types, every test
	ruff format --check .
	ruff check .
	mypy
	python -m pytest

bench: $(READY)  ## measure what is claimed about speed
	@set -e; for file in $(BENCHMARKS); do \
		module=$${file%.py}; module=$${module%/__main__}; echo "== $$module"; python -m "$$(echo $$module | tr / .)"; done

docs: $(READY)  ## build the site: a page for every model, the guides, the studies
	python -m sphinx -q -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "the site: $(CURDIR)/docs/_build/html/index.html"

ui: $(READY)  ## open MLflow's pages on runs and registered models
	gen ui

clean:  ## remove the environment and caches; data, models and reports stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist docs/_build *.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
