# Two commands set everything up by themselves, in .venv of this clone:
#   make train   prepare the data, meta-train MAML over a local cluster, meta-test it
#   make test    the test suite
# make docs builds the documentation's site, docs/_build/html/index.html.
# ARGS adds arguments: make train ARGS="--meta.minutes 1", make test ARGS="-k fold"

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: train test lint docs install clean

train: $(INSTALLED)
	$(BIN)/python -m workflows.train --config workflows/configs/quickstart.yaml $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest -p tests.scheduling --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every warning is an error: also a link that leads nowhere.
docs: $(INSTALLED)
	COLUMNS=100 $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Fanfold needs Python 3.11 or later: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,lint,docs]'
	$(BIN)/python -c 'from fanfold.tasks.derivatives.backends import compile_kernels; compile_kernels()'
	@touch $@

clean:
	rm -rf $(VENV) docs/_build docs/command-line.md docs/api.md docs/quickstart-notebook.md *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
