# `make demo` and `make test` set everything up by themselves: they need python3 (3.11 or newer), pip and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ROOMS = agent engines plugins prompts

.PHONY: demo test lint types layers wheel clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed

# The rooms under their installed names, for tools that read source and do not see through an editable install.
.types/tunewright: $(BIN)/python
	@mkdir -p $@
	@for room in $(ROOMS); do ln -sfn ../../$$room $@/$$room; done

demo: $(VENV)/.installed
	$(BIN)/tunewright demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -q

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev .types/tunewright
	$(BIN)/mypy

layers: $(VENV)/.dev .types/tunewright
	cd .types && PYTHONPATH=. ../$(BIN)/lint-imports --config ../pyproject.toml --no-cache

wheel: $(VENV)/.dev
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf build dist .types $(VENV) *.egg-info
