# make sweep   set up, then the quickstart: 2 models x baseline and 4 arms x 3 benchmarks, ends in a report
# make test    set up, then the light test suite
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FLAGS ?=
# Test files run side by side; more than four only crowd the memory.
JOBS ?= logical
LIGHT := not slow and not browser and not extras and not perf and not gpu and not cluster and not sparseml
SIDE_BY_SIDE := -n $(JOBS) --maxprocesses 4 --dist loadfile

.PHONY: sweep test test-slow test-browser test-extras test-sparseml test-cluster lint perf list clean

sweep: $(VENV)/.ready
	$(BIN)/python -m biaslab experiment=quickstart $(FLAGS)

test: $(VENV)/.ready
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "$(LIGHT)" $(FLAGS)

test-slow: $(VENV)/.ready
	$(BIN)/python -m pytest -n $(JOBS) --maxprocesses 4 -m slow $(FLAGS)

test-browser: $(VENV)/.ready
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[browser]"
	$(BIN)/python -m pytest -m browser $(FLAGS)

test-extras: $(VENV)/.ready
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[quantizers,peers]"
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m extras $(FLAGS)

test-sparseml: $(VENV)/.ready
	$(BIN)/python -m biaslab sparseml setup
	$(BIN)/python -m pytest -m sparseml $(FLAGS)

test-cluster: $(VENV)/.ready
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[slurm,ray,joblib]"
	$(BIN)/python -m pytest -m cluster $(FLAGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

perf: $(VENV)/.ready
	$(BIN)/python -m pytest -m perf -s $(FLAGS)

list: $(VENV)/.ready
	$(BIN)/python -m biaslab list

$(VENV)/.ready: pyproject.toml constraints.txt .ci/setup.py
	$(PYTHON) .ci/setup.py $(VENV) test
	@touch $@

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
