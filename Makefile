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

.PHONY: sweep test test-slow test-browser test-extras test-inspect test-sparseml test-cluster lint audit perf perf-gpu calibrate \
	study docs gpu-check list clean

sweep: $(VENV)/.ready
	$(BIN)/python -m biaslab experiment=quickstart $(FLAGS)

# The light suite, then the report in a real browser where there is one (a line says if there is none).
test: $(VENV)/.ready
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "$(LIGHT)" $(FLAGS)
	@$(BIN)/python -m tests.browser $(FLAGS)

test-slow: $(VENV)/.ready
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "slow and not extras and not cluster" $(FLAGS)

test-browser: $(VENV)/.ready
	@$(BIN)/python -m tests.browser --strict-browser $(FLAGS)

# The optional libraries beside biaslab, and the peer that scores are held to.
test-extras: $(VENV)/.ready
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[quantizers,sentiment,notebook,quanto,dashboard]" \
		"lm_eval==0.4.13" "vl-convert-python>=1.9"
	$(BIN)/python -m pip install -q --no-deps --ignore-requires-python "every-eval-ever==0.3.0"  # its schemas alone are read
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "extras and not sparseml and not perf and not slow" $(FLAGS)
	$(BIN)/python -m pytest tests/accel/test_kv_libraries.py -m "slow and extras" $(FLAGS)

# inspect_ai wants an older fsspec than the tested set, so it gets an environment of its own.
test-inspect: .venv-inspect/.ready
	.venv-inspect/bin/python -m pytest tests/analysis/importers/test_inspect.py -m extras $(FLAGS)

test-sparseml: $(VENV)/.ready
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[quantizers]"
	$(BIN)/python -m biaslab sparseml setup
	BIASLAB_REQUIRE_SPARSEML=1 $(BIN)/python -m pytest -m sparseml $(FLAGS)

# On a real Slurm and a real Ray, both on loopback; needs root. The two run side by side.
test-cluster: $(VENV)/.ready
	tests/cluster/install.sh $(BIN)/python
	$(BIN)/python -m pytest -n 2 --dist loadfile -m cluster --timeout 400 $(FLAGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(VENV)/.ready
	$(BIN)/python -m pip install -q bandit
	$(BIN)/bandit -q -c pyproject.toml -r biaslab analysis .ci
	test -x .venv-audit/bin/pip-audit || ($(PYTHON) -m venv .venv-audit && .venv-audit/bin/pip install -q pip-audit)
	$(BIN)/python .ci/audit.py .venv-audit/bin/pip-audit

# biaslab beside lm-evaluation-harness, and what else has a bound; writes docs/performance.md.
perf: $(VENV)/.ready .venv-peer/.ready
	mkdir -p build && rm -f build/perf.jsonl
	BIASLAB_PERF_ROWS=$(CURDIR)/build/perf.jsonl $(BIN)/python -m pytest -m perf -s $(FLAGS); code=$$?; \
		$(BIN)/python -m tests.perf.page build/perf.jsonl && exit $$code

# The same races on a GPU with shapes of 1B and 8B; where there is none it says so and fails.
perf-gpu: $(VENV)/.ready .venv-peer/.ready
	mkdir -p build && rm -f build/perf-gpu.jsonl
	BIASLAB_PERF_ROWS=$(CURDIR)/build/perf-gpu.jsonl $(BIN)/python -m tests.perf.gpu

# The embedded study: 18 models of known bias under every accelerator that a CPU runs; rewrites docs/organisms.md.
study: $(VENV)/.ready
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[quantizers]"
	$(BIN)/python -m biaslab experiment=organisms $(FLAGS)
	$(BIN)/python -m biaslab experiment=organisms accel=bnb8,bnb4,bnb_fp4,gptq4,awq4,ao_int8,ao_int4 $(FLAGS)
	$(BIN)/python -m tests.study.organisms outputs/results docs/organisms.md

# Type-I error, coverage and power of every default by simulation; rewrites the tables of docs/statistics.md.
calibrate: $(VENV)/.ready
	$(BIN)/python -m tests.calibration

# The pages of docs/ as a site in build/site: every link and anchor checked, nothing in it asks another server.
docs: $(VENV)/.ready
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	$(BIN)/python -m sphinx -q -E -W --keep-going -c docs -d build/doctrees . build/site
	$(BIN)/python -m pytest -q tests/docs/test_site.py $(FLAGS)

gpu-check: $(VENV)/.ready
	$(BIN)/python -m tests.gpu

list: $(VENV)/.ready
	$(BIN)/python -m biaslab list

$(VENV)/.ready: pyproject.toml constraints.txt .ci/setup.py
	$(PYTHON) .ci/setup.py $(VENV) test,browser
	@touch $@

.venv-peer/.ready: constraints.txt .ci/setup.py
	$(PYTHON) .ci/setup.py .venv-peer test
	.venv-peer/bin/python -m pip install -q -c constraints.txt "lm_eval==0.4.13"
	@touch $@

.venv-inspect/.ready: constraints.txt .ci/setup.py
	$(PYTHON) .ci/setup.py .venv-inspect test
	.venv-inspect/bin/python -m pip install -q "torch==$$(sed -n 's/^torch==//p' constraints.txt)" "inspect-ai>=0.3.200"
	@touch $@

clean:
	rm -rf $(VENV) .venv-audit .venv-peer .venv-inspect dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
