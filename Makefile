# Everything sets itself up: `make demo` and `make test` work on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint bench clean

# Three stamps: the product alone installs in seconds, models and the tools of its developers where they are needed.
$(VENV)/product: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

# torch first and by itself: so that whatever depends on it takes this one.
$(VENV)/models: $(VENV)/product
	$(PIP) 'torch==2.13.0'
	$(PIP) -e '.[models]'
	touch $@

$(VENV)/dev: $(VENV)/models
	$(PIP) -e '.[dev]'
	touch $@

demo: $(VENV)/models
	$(BIN)/tamis demo --out demo-out

test: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/models
	$(BIN)/python bench/filters.py
	$(BIN)/python bench/classify.py

clean:
	rm -rf $(VENV) demo-out build dist
