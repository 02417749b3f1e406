# What each target does: make help
PYTHON3 ?= python3
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
FUZZ_ARGS ?=
FAULTS_ARGS ?=
MINUTES ?= 10
PAGES ?=

# In a distribution's shell and outside one alike: put .venv on ROS's and Python's search paths.
IN_VENV := . .venv/local_setup.sh &&
# What is too long for `make test` lies beside its short parts in test/reliability/.
IN_TEST := PYTHONPATH=$(CURDIR)/test:$$PYTHONPATH .venv/bin/python

.PHONY: help setup build test lint docs demo bench bench-compare fuzz faults soak release-check docs-check clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*##(.*)/  make \1\t\2/p' $(MAKEFILE_LIST)

setup:  ## make .venv: on the sourced ROS 2 distribution, else with ROS 2 from wheels
	@$(PYTHON3) tools/setup_env.py

build:  ## build the message packages again and link this package again
	@$(PYTHON3) tools/setup_env.py build

RENDERING := make test: libegl1 missing: apt-get install -y libegl1 libgl1-mesa-dri
# Hundreds of processes import the same files: each is compiled once, even where a container's
# environment wants nothing kept. With a process that crashes the run ends: pytest-xdist would wait
# for its tests for good. A test that failed while others ran runs again, alone, and must pass: with
# real processes on a busy machine, one in thousands is starved. It stays in the log as FAILED.
PYTEST := PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pytest
test: lint  ## lint, then run the tests (PYTEST_ARGS='-k name')
	@$(PYTHON3) -c 'import ctypes.util as c; c.find_library("EGL") or exit("$(RENDERING)")'
	@$(IN_VENV) $(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 \
		--durations 10 $(PYTEST_ARGS) \
	|| { [ $$? = 1 ] && echo 'What failed runs again, alone:' \
		&& $(PYTEST) -x --last-failed --last-failed-no-failures none $(PYTEST_ARGS); }

lint: setup  ## check the style and the types
	@.venv/bin/python -m ruff check
	@.venv/bin/python -m mypy

docs: .venv_docs/made  ## build the site of README.md, docs/ and all docstrings in build/docs
	@.venv_docs/bin/sphinx-build -q -W --keep-going -j auto docs build/docs
	@echo build/docs/index.html

# Of its own, as only those who write docs need it; Sphinx reads the code without importing it.
.venv_docs/made: docs/requirements.txt
	$(PYTHON3) -m venv --clear .venv_docs
	.venv_docs/bin/pip --disable-pip-version-check install -q -r $<
	@touch $@

demo: setup  ## two nodes label a stream of images (DEMO_ARGS='--help')
	@$(IN_VENV) .venv/bin/vl2v_demo $(DEMO_ARGS)

bench: setup  ## measure speed beside a usual CLIP node (BENCH_ARGS='--help')
	@$(IN_VENV) .venv/bin/python benchmarks/bench.py $(BENCH_ARGS)

bench-compare: setup  ## name what got slower since the committed run (or OLD=old.json NEW=new.json)
	@.venv/bin/python benchmarks/compare.py $(if $(OLD),--old $(OLD)) $(if $(NEW),--new $(NEW))

fuzz: setup  ## damaged files and hostile messages, 100,000 each (FUZZ_ARGS='--trials 1000')
	@$(IN_VENV) $(IN_TEST) -m reliability.fuzz_files $(FUZZ_ARGS)
	@$(IN_VENV) $(IN_TEST) -m reliability.fuzz_messages $(FUZZ_ARGS)

faults: setup  ## kill programs, fill disks, take things away (FAULTS_ARGS='--kills 5')
	@$(IN_VENV) $(IN_TEST) -m reliability.faults $(FAULTS_ARGS)

soak: setup  ## run the nodes for long, and look for leaks and gaps: make soak MINUTES=10
	@$(IN_VENV) $(IN_TEST) -m reliability.soak --minutes $(MINUTES)

release-check: setup  ## check what a release needs: versions, changelogs, a wheel in an empty venv
	@.venv/bin/python tools/release_check.py

docs-check: setup  ## run the commands of all pages, or check those that cannot run (PAGES='README.md')
	@$(IN_VENV) .venv/bin/python tools/docs_check.py $(PAGES)

clean:  ## remove what setup and build made
	rm -rf .venv .venv_docs build install log .mypy_cache .pytest_cache .ruff_cache
