# Every target does its own set-up: a machine with Python, pip and make is enough.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install test demo check format docs links results api clean

PYTHON ?= python3
# In the order of the files: those with one long test would come last otherwise, and one process wait for the other.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

help:  ## Show this list
	@awk -F ':.*## *' '/^[a-z]+:.*##/ { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# torch goes first and at its pin, so that no other package's range decides which build is downloaded.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "$$(grep '^torch==' constraints.txt)" -c constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

install: $(READY)  ## Make the virtual environment .venv

test: $(READY)  ## Run all tests and doctests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

demo: $(READY)  ## Learn poses of rendered birds without labels and write demo/index.html
	$(BIN)/python examples/demo.py --out demo

check: $(READY)  ## Check format, lint, types, spelling, and documentation with its links
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

format: $(READY)  ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## Build the documentation into docs/_build/html
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

links: $(READY)  ## Follow the links of the documentation to other sites
	$(BIN)/sphinx-build -q -b linkcheck docs docs/_build/links

results: $(READY)  ## Write the tables of docs/ from docs/results/*.json
	$(BIN)/python examples/reproduction/figures.py docs/results.md docs/ablations.md

api: $(READY)  ## Record the public names in tests/api_surface.json
	$(BIN)/python tests/test_api.py

clean:  ## Remove the environment and everything built
	rm -rf $(VENV) docs/_build docs/api docs/notebooks dist demo
