PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ADDRESS ?= 127.0.0.1
PORT ?= 8501

.PHONY: run setup test long bench stress stress-files check lint docs clean lock home

run: setup  ## start the dashboard
	$(BIN)/quantviz serve --address $(ADDRESS) --port $(PORT) $(SERVE)

setup: $(VENV)/.installed  ## install the locked runtime dependencies and the quantviz command

# Over a hundred tests start a new interpreter, which is not to compile quantviz again.
QUICKER := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1
# One of three processes gets the page's tests, which wait for the browser half of their time. Runs of three on two cores took
# 595 to 722 s, one of two 644 s on another day: they are not told apart yet. tests/conftest.py says which tests stay together;
# in its order, as by their number the slow files would come last.
test: $(VENV)/.installed-dev  ## run every test
	$(QUICKER) $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

long: $(VENV)/.installed-dev  ## run what make test leaves out: more networks, learned rounding on real photographs, sweeps killed a hundred times
	$(QUICKER) HYPOTHESIS_PROFILE=default $(BIN)/python -m pytest -m "slow or hypothesis" --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest tests/long --verbose -s

stress-files: $(VENV)/.installed-dev  ## a thousand hostile pictures, other files, kills, tampering and disk faults; some minutes
	$(BIN)/python tests/stress/files.py --write docs/stress_files.md

stress: $(VENV)/.installed-dev  ## load one server as many visitors do; SHORT=1 takes three minutes on an idle machine
	$(BIN)/python tests/stress/server.py --page docs/stress.md $(if $(SHORT),--sessions 3 --actions 6 --idle 5 --cached 20 --reruns 40 --settle 20 --models squeezenet1_1)

bench: $(VENV)/.installed-dev  ## measure speed and memory of all models and of whole processes; half an hour on an idle machine
	$(BIN)/quantviz bench --processes --rounds 7 --json bench.json --plot bench.png

lint: $(VENV)/.installed-dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev  ## build the documentation into docs/_build/html; any warning is an error
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html
	$(BIN)/python docs/tools/check_offline.py docs/_build/html

check: lint docs test  ## what must be clean before a commit

$(VENV)/.installed: requirements.lock requirements-cuda.lock pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock --constraint requirements-cuda.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.installed-dev: requirements-dev.lock requirements-compiled.lock $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-compiled.lock || \
		echo "No C compiler: the tests that compare scores with pysaliency will be skipped."
	touch $@

lock: $(VENV)/.installed-dev  ## write the lock files, and the list of licences, from what is installed
	$(BIN)/python tests/tools/write_locks.py
	$(BIN)/python docs/tools/write_licences.py

home: $(VENV)/.installed  ## compute what ships: the default network's ranges, and what the dashboard's first page shows
	$(BIN)/python docs/tools/write_ranges.py
	$(BIN)/python docs/tools/write_home.py

clean:  ## remove the environment and the cache
	rm -rf $(VENV) cache docs/_build
