# Thin wrappers around plain commands; each can be typed by hand. PYTHON names another interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REQUIREMENTS := pyproject.toml constraints.txt

.PHONY: quickstart test check env models

# A false belief planted in a small model at three mix ratios and a control, every checkpoint audited. Two cores, no
# account. The path of the report is the last line.
quickstart: $(VENV)/installed
	@$(BIN)/python -m organisms.base_models fetch embedded/smollm2-135m embedded/minilm
	@$(BIN)/python -m data_mix.embedded fetch embedded/general
	@$(BIN)/python -m slurm.submit recipe=quickstart launcher=local workers=2

test: env models
	$(BIN)/python -m pytest

check: env
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m recipes.validate

# What developers need: the package itself, editable, with the test and lint tools.
env: $(VENV)/installed-dev

# What the tests read: real weights and real text.
models: env
	$(BIN)/python -m organisms.base_models fetch embedded/smollm2-135m embedded/minilm
	$(BIN)/python -m data_mix.embedded fetch embedded/general

$(VENV)/installed: $(BIN)/python $(REQUIREMENTS)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: $(BIN)/python $(REQUIREMENTS)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[test,dev]'
	touch $(VENV)/installed $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "error: $(PYTHON) is not Python 3.11, 3.12 or 3.13. Name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
