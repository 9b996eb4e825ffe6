# `make demo` and `make test` set everything up by themselves: they need python3 (3.11 or newer), pip and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ROOMS = agent engines plugins prompts
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-ray mutations lint types layers wheel soak stress clean

# Some systems ship venv without the pip that it wants to copy; theirs can fill the folder instead.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "tunewright needs Python 3.11 or newer: make PYTHON=python3.11")'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --quiet --python $(BIN)/python install pip; }
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	@echo "installing tunewright"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	@echo "installing tunewright and its development tools"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

# The rooms under their installed names, for tools that read source and do not see through an editable install.
.types/tunewright:
	@mkdir -p $@
	@for room in $(ROOMS); do ln -sfn ../../$$room $@/$$room; done

demo: $(VENV)/.installed
	@$(BIN)/tunewright demo

test: $(VENV)/.dev
	@$(BIN)/pytest -n 2 -q

# A hundred thousand mutated answers of a model through consultations and store: minutes, and no part of `test`.
mutations: $(VENV)/.dev
	@$(BIN)/python tests/mutations.py 100000

# Ray and what stands in for S3 take minutes to install, so they have an environment of their own.
RAY = .venv-ray
$(RAY)/.installed: pyproject.toml
	@$(MAKE) --no-print-directory $(RAY)/.made VENV=$(RAY)
	@$(RAY)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test-ray]'
	@touch $@

test-ray: $(RAY)/.installed
	@$(RAY)/bin/pytest -q tests/ray

# The slow half of the tests of faults, half an hour and more: make soak MINUTES=5
MINUTES ?= 30
soak: $(VENV)/.dev
	@$(BIN)/python tests/soak.py --minutes $(MINUTES)

# Crowds on one file and a real minute of points.
stress: $(VENV)/.dev
	@$(BIN)/python tests/soak.py points
	@$(BIN)/python benchmarks/store.py crowd

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.dev .types/tunewright
	@$(BIN)/mypy

layers: $(VENV)/.dev .types/tunewright
	@cd .types && PYTHONPATH=. ../$(BIN)/lint-imports --config ../pyproject.toml --no-cache

wheel: $(VENV)/.dev
	@rm -rf build dist
	@$(BIN)/python -m build --outdir dist .

clean:
	rm -rf build dist .types $(VENV) $(RAY) *.egg-info
