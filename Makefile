# Everything from a bare clone with Python >= 3.11, pip and make; every target may be run again at any time.
#
#   make demo        compare a text encoder with its fine-tuned copy, and write a report page
#   make test        lint, then the tests, with the lines they do not reach (what CI runs)
#   make lint        ruff, formatting, types, and the direction of imports
#   make cov         the tests, and a line-by-line coverage page in htmlcov/
#   make test-long   all tests, the slow ones included
#   make bench       the benchmarks, under an hour on two quiet cores, and docs/benchmarks.md; ROW=8385 runs one row
#   make peers       install the public packages that the benchmarks compare with, where they are present
#   make venv        only build .venv, with what the tests need
#   make clean       remove .venv and everything generated
#
# PYTHON=python3.12 picks the interpreter; ARGS='-k cka' is handed on to pytest, or to the demo.
# torch comes from pip's usual index. Its Linux build there brings several GB of CUDA packages: to use a CPU build,
# name an index or a folder that has one in PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS, or install it into .venv before.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
# pip compiles on one core, and that is half of the install: it is told not to, and this does it on all of them.
# Sources that are not for this Python (torch ships one) do not compile, and are never imported.
BYTECODE := $(BIN)/python -m compileall -qq -j 0 -x '/tests/' $(VENV)/lib || true
PINS   := pyproject.toml constraints.txt

# Nothing here may reach for a model hub: the models come out of installed packages.
export HF_HUB_OFFLINE := 1
# The tests start many processes: let them find each other's bytecode.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.PHONY: demo test test-long cov lint bench peers venv clean
.DEFAULT_GOAL := test

demo: $(VENV)/.demo
	$(BIN)/congruence demo $(ARGS)

# A file of tests keeps to one process, since its fixtures are shared; files run on all cores.
test: lint
	$(BIN)/python -m pytest -q -n auto --dist loadfile --cov --cov-report=term-missing $(ARGS)

test-long: lint
	$(BIN)/python -m pytest -m "" $(ARGS)

cov: $(VENV)/.dev
	$(BIN)/python -m pytest --cov --cov-report=term-missing --cov-report=html $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# What has been measured is kept in benchmarks/results: an interrupted run goes on, and ARGS=--again measures once more.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(addprefix --row ,$(ROW)) $(ARGS)

peers: $(VENV)/.dev
	@$(PIP) install --no-compile -c constraints.txt --no-build-isolation -e '.[peers]'

venv: $(VENV)/.dev

# A stamp is written when its step is complete, so an interrupted install is simply taken up again. The editable
# install is built with the pinned hatchling (--no-build-isolation), not with the newest one that pip can find.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "congruence needs Python >= 3.11; " \
	    "got %d.%d. Name another one: make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(PINS) requirements-demo.txt | $(VENV)/.created
	@echo "Installing congruence with its demo into $(VENV) ..."
	@$(PIP) install --no-compile -c constraints.txt hatchling editables
	@$(PIP) install --no-compile --no-deps --require-hashes -r requirements-demo.txt
	@$(PIP) install --no-compile -c constraints.txt --no-build-isolation -e '.[demo]'
	@$(BYTECODE)
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "Installing what the tests need ..."
	@$(PIP) install --no-compile -c constraints.txt --no-build-isolation -e '.[dev]'
	@$(BYTECODE)
	@$(PIP) check
	@touch $@

clean:
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* congruence-demo \
	    .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
