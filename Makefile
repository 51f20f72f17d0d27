# Two commands matter: `make course` and `make test`. Each sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp
PROFILE ?= toy
ARGS ?=
ONLY ?=

.DEFAULT_GOAL := help
.PHONY: help setup course test lint render lab demo bench clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

setup: $(STAMP)  ## make .venv with exact versions and the corpora packages

$(STAMP): pyproject.toml constraints.txt finllm_utils/corpora/packages.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "FinLLM needs Python 3.11 or newer; try: make setup PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m finllm_utils.cli corpora --small
	touch $(STAMP)

course: $(STAMP)  ## run the whole course (PROFILE=toy), print the report
	$(BIN)/python -m finllm_utils.cli run --profile $(PROFILE) $(ARGS)

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARGS)

lint: $(STAMP)  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

render: course  ## put the outputs of the toy run into the notebooks
	$(BIN)/python -m finllm_utils.cli render

lab: $(STAMP)  ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

demo: $(STAMP)  ## ask the hub a few questions
	$(BIN)/python -m finllm_utils.cli ask

bench: $(STAMP)  ## run the benchmarks that fit this machine (ONLY=name for one)
	@for file in tests/benchmarks/$(if $(ONLY),$(ONLY),[a-z]*).py; do \
	  if ! test -f $$file; then echo "no benchmark $$file"; test -z "$(ONLY)" || exit 1; \
	  elif grep -q __main__ $$file; then echo "== $$file"; \
	    $(BIN)/python -m tests.benchmarks.$$(basename $$file .py) || exit 1; fi; done

clean:  ## remove the environment and caches; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
