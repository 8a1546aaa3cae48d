PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ADDRESS ?= 127.0.0.1
PORT ?= 8501

.PHONY: run setup test long check lint clean lock

run: setup  ## start the dashboard
	$(BIN)/quantviz serve --address $(ADDRESS) --port $(PORT)

setup: $(VENV)/.installed  ## install the locked runtime dependencies and the quantviz command

# Two processes of one thread each are faster on two cores than one process of two threads. In the order of their names:
# by their number of tests, the slow files would come last and leave one process idle.
test: $(VENV)/.installed-dev  ## run every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

long: $(VENV)/.installed-dev  ## run the tests that take many minutes: learned rounding on real photographs, sweeps killed a hundred times
	$(BIN)/python -m pytest tests/long --verbose -s

lint: $(VENV)/.installed-dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test  ## what must be clean before a commit

$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.installed-dev: requirements-dev.lock requirements-compiled.lock $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-compiled.lock || \
		echo "No C compiler: the tests that compare scores with pysaliency will be skipped."
	touch $@

lock: $(VENV)/.installed-dev  ## write the lock files from what is installed
	$(BIN)/python tests/tools/write_locks.py

clean:  ## remove the environment and the cache
	rm -rf $(VENV) cache
