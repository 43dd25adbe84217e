# Every target makes what it needs: Python 3.11 or newer and pip are enough.
#   make demo | test | unit | book | check | bench | lock | clean
#   make test PYTHON=python3.13        another Python (after `make clean`)
#   make test CONSTRAINTS=             the newest versions instead of the locked ones
.DEFAULT_GOAL := help
PYTHON ?= python3
CONSTRAINTS ?= -c requirements.lock
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.stamp-run
DEV := $(VENV)/.stamp-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*##  */  make \1\t/p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sketchlearn needs Python 3.11 or newer: make ... PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(VENV) install --quiet pip; } || { rm -rf $(VENV); exit 1; }

$(RUN): pyproject.toml requirements.lock | $(BIN)/python
	$(PIP) install --quiet $(CONSTRAINTS) -e .
	@touch $@

$(DEV): $(RUN)
	$(PIP) install --quiet $(CONSTRAINTS) -e ".[dev]"
	@touch $@

demo: $(RUN)  ## train, sketch, predict a deletion, and compare with the truth
	$(BIN)/sketchlearn demo

test: $(DEV)  ## unit tests, doctests, and every notebook against its stored outputs
	$(BIN)/python -m pytest -n 2 --dist loadfile -m ""

unit: $(DEV)  ## the unit tests without the slow ones, about two minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile tests sketchlearn

book: $(DEV)  ## build the book into _build/html; a warning is an error
	$(BIN)/jupyter-book build . -W -n --keep-going

check: $(DEV)  ## style, types, and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

notebooks: $(DEV)  ## run the notebooks again and store what they print
	$(BIN)/python tools/run_notebooks.py

bench: $(DEV)  ## the measured figures of the README
	$(BIN)/python -m benchmarks

lock: $(DEV)  ## write the versions of this environment to requirements.lock
	$(BIN)/python tools/lock.py

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) _build .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help demo test unit book check notebooks bench lock clean
