# `make demo` and `make test` each set themselves up from nothing: a virtual environment, the package and the tested
# versions of everything it needs (constraints.txt).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test test-science docs lint format benchmarks clean

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Striate into $(VENV) (about 1 GB with torch, once)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/striate demo

# A worker a core, a thread a worker: most of the time goes into starting commands, not into products.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

test: $(VENV)/.installed
	$(PYTEST)

# One after another: some of these hold measured steps against models of them.
test-science: $(VENV)/.installed
	$(BIN)/python -m pytest -m science

# The commands and the Python that pages show are run, then the site is built, into build/docs.
docs: $(VENV)/.installed
	$(BIN)/python docs/tools/run.py
	$(BIN)/python -m sphinx --fresh-env --fail-on-warning --keep-going --quiet --builder html docs build/docs

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmarks: $(VENV)/.installed
	$(BIN)/striate bench --quick --all

clean:
	rm -rf $(VENV) runs stores build dist
