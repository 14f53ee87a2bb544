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

# Ends with a page to look at: demo-out/report.html.
demo: $(VENV)/models
	$(PIP) -e '.[report]'
	$(BIN)/tamis demo --out demo-out
	$(BIN)/tamis report demo-out/curated --out demo-out/report.html

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

test: $(VENV)/dev $(VENV)/browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# The page of a report is tested in a real browser. Where there is none and none can be installed, these tests are skipped.
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable
$(VENV)/browser: $(VENV)/product
	@if (for name in $(BROWSERS); do command -v $$name >/dev/null 2>&1 && exit 0; done; exit 1); then touch $@; exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then become=""; else become="sudo -n"; fi; \
	if command -v apt-get >/dev/null 2>&1 && $$become true 2>/dev/null; then \
	  echo "Installing Chromium, for the tests of the report page"; \
	  $$become apt-get update -qq >/dev/null 2>&1; \
	  if $$become env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1; \
	  then touch $@; exit 0; fi; \
	fi; \
	echo "There is no Chromium here, so the tests of the report page are skipped. Install one (apt-get install chromium) to run them."

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
