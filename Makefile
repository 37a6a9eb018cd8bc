# make setup | test | test-all | test-floors | docs | lint | demo. Each makes the virtual environment first if it is missing
# or outdated; lint only if it is missing.
#
#   PYTHON=python3.12            another interpreter (3.11 to 3.13)
#   TORCH_INSTALL_ARGS="..."     where torch comes from. On Linux the default build carries several GB of CUDA
#                                libraries; for a machine without a GPU give the --index-url of the CPU builds that
#                                PyTorch's installation guide names.
#   WORKERS=4                    processes of a test run
#   TESTS=tests/test_cli.py      only these tests
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
TORCH_INSTALL_ARGS ?=
CONSTRAINTS := constraints.txt
TORCH := $(shell grep '^torch==' $(CONSTRAINTS))
LEARN2LEARN := learn2learn==0.2.0

PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
# A file's tests stay in one process, which makes what they share once. Slow ones take longer than that: a process that
# has none left takes some of another's.
RUN = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS)
PYTEST = $(RUN) --dist loadfile
SLOW = $(RUN) --dist worksteal
# A Ray cluster counts on its CPUs, and starts processes of its own: one test at a time, beside no others.
CLUSTER = $(RUN) -n 0 -m "cluster"

.PHONY: setup test test-slow test-baselines test-offline test-cluster test-all test-floors test-not-slow docs lint demo
.PHONY: clean

setup: $(VENV)/installed

# torch goes first and alone: together with the rest, pip would resolve to its newest release.
# learn2learn goes last and without its dependencies: only its MAML is used, and it builds only with this flag.
$(VENV)/installed: setup.cfg pyproject.toml $(CONSTRAINTS) Makefile
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -qq --upgrade "pip>=24" "setuptools>=70"
	$(PIP) install -qq "$(TORCH)" $(TORCH_INSTALL_ARGS)
	$(PIP) install -qq --constraint $(CONSTRAINTS) --editable ".[test]"
	$(VENV)/bin/python -c "import importlib.metadata as m; assert m.version('learn2learn')" 2>/dev/null \
		|| $(PIP) install -qq --no-deps "$(LEARN2LEARN)" --config-settings="--build-option=build_ext" \
		|| echo "warning: $(LEARN2LEARN) did not build (it needs a C compiler); all but its MAML engine works"
	touch $@

test: setup
	$(PYTEST) -m "not slow and not baselines and not cluster" $(TESTS)

test-slow: setup
	$(SLOW) -m "slow and not baselines and not cluster" $(TESTS)

$(VENV)/baselines: $(VENV)/installed
	$(PIP) install -qq --constraint $(CONSTRAINTS) --editable ".[test,baselines]"
	touch $@

test-baselines: $(VENV)/baselines
	$(PYTEST) -m "baselines" $(TESTS)

$(VENV)/offline: $(VENV)/installed
	$(PIP) install -qq --constraint $(CONSTRAINTS) --editable ".[test,offline]"
	touch $@

test-offline: $(VENV)/offline
	$(PYTEST) -m "offline" $(TESTS)

$(VENV)/cluster: $(VENV)/installed
	$(PIP) install -qq --constraint $(CONSTRAINTS) --editable ".[test,cluster]"
	touch $@

test-cluster: $(VENV)/cluster
	$(CLUSTER) $(TESTS)

# Of the TESTS that were chosen none may need a cluster: pytest says so with exit status 5.
test-all: test $(VENV)/baselines $(VENV)/offline $(VENV)/cluster
	$(SLOW) -m "(slow or baselines or offline) and not cluster" $(TESTS)
	$(CLUSTER) $(TESTS) || { [ $$? = 5 ] && [ -n "$(TESTS)" ]; }

# All but the slow tests once more, with the lowest versions that setup.cfg admits, in an environment of its own.
# numpy's has wheels for Python 3.11 and 3.12.
test-floors:
	$(MAKE) test-not-slow VENV=.venv-floors CONSTRAINTS=constraints-floors.txt

test-not-slow: $(VENV)/baselines
	$(PYTEST) -m "not slow" $(TESTS)

$(VENV)/docs: $(VENV)/installed
	$(PIP) install -qq --constraint $(CONSTRAINTS) --editable ".[test,docs]"
	touch $@

# The documentation as a site, docs/_build/index.html; a warning fails.
docs: $(VENV)/docs
	$(VENV)/bin/python -m sphinx -q -W --keep-going -b html docs docs/_build

# Where there is ruff, it installs nothing: a worktree with a linked .venv would turn the editable install to itself.
lint: $(if $(wildcard $(VENV)/bin/ruff),,setup)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

demo: setup
	$(VENV)/bin/meta-latent demo

clean:
	rm -rf build dist docs/_build *.egg-info .pytest_cache .ruff_cache
