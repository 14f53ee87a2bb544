# Everything sets itself up: `make demo` and `make test` work on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo law test lint bench clean

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

# Questions become rows, rows tune a model, and its answers are judged beside those of the untuned one. LAW is Posts.xml of a
# Stack Exchange dump (law.stackexchange.com), or CSV or JSON Lines with title, content and tags; without it, docstrings.
# On a machine with a GPU and the hub: make law LAW=Posts.xml MODEL=google/gemma-2-2b RECIPE=gemma2_law_tags STEPS=2500 TAGS=100
LAW ?=
LAW_OUT ?= law-out
MODEL ?= HuggingFaceTB/SmolLM2-135M-Instruct
RECIPE ?= smollm2_law_tags
STEPS ?= 20
TAGS ?= 12
QUESTIONS ?= 40
RAW := $(or $(LAW),$(LAW_OUT)/questions.jsonl)

# Every step goes on where it was stopped, and does nothing where it is done.
law: $(VENV)/law $(RAW)
	$(BIN)/tamis run law_questions --set 'input.path=$(RAW)' --set 'output.path=$(LAW_OUT)/curated' --set TagList.most=$(TAGS)
	$(BIN)/tamis tune $(RECIPE) --set model.name=$(MODEL) --set 'output.path=$(LAW_OUT)/tuned' \
	  --set 'data.train=$(LAW_OUT)/curated/train' --set 'data.validation=$(LAW_OUT)/curated/validation' \
	  --set train.max_steps=$(STEPS)
	$(BIN)/tamis generate $(MODEL) $(LAW_OUT)/curated/validation --out $(LAW_OUT)/base --limit $(QUESTIONS)
	$(BIN)/tamis generate $(LAW_OUT)/tuned/best $(LAW_OUT)/curated/validation --out $(LAW_OUT)/answers --limit $(QUESTIONS)
	$(BIN)/tamis evaluate $(LAW_OUT)/answers --against $(LAW_OUT)/base --baselines $(LAW_OUT)/curated/train \
	  --out $(LAW_OUT)/report

$(LAW_OUT)/questions.jsonl: $(VENV)/product
	$(BIN)/python examples/documentation_questions.py $@

$(VENV)/law: $(VENV)/models
	$(PIP) -e '.[tune,pii,gguf]'
	touch $@

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
	rm -rf $(VENV) demo-out $(LAW_OUT) build dist
