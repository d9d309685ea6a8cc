# Needs Python (3.11 or newer), pip and make. The first target that runs creates the environment from requirements.lock.
#   make verify ARGS=--quick     make test PYTHON=python3.12     make figures ARGS=root_loci
PYTHON  ?= python3
VENV    ?= .venv
WORKERS ?= 2
ARGS    ?=

BIN  := $(VENV)/bin
CODE := theory toylab figures docs

.PHONY: help venv verify test test-all figures docs bench plateaus models lint format types lock clean distclean
help:
	@echo 'make verify     run the claims: theory against experiment (ARGS=--quick, ARGS=--sabotage, ...)'
	@echo 'make test       the tests, without the slow ones'
	@echo 'make test-all   every test, with 300 examples for each property'
	@echo 'make figures    draw the figures into out/figures'
	@echo 'make docs       write the tables of README.md and docs/ from what the program says'
	@echo 'make bench      measure what measuring costs; make plateaus models: the long runs behind the tables'
	@echo 'make lint types style and types;   make format repairs what it can'
	@echo 'make lock       resolve requirements.lock again;   make clean distclean'

verify: venv
	$(BIN)/toylab verify $(ARGS)

figures: venv
	$(BIN)/toylab figures $(ARGS)

docs: venv
	$(BIN)/python docs/build.py

bench: venv
	$(BIN)/python benchmarks/run.py $(ARGS)

plateaus: venv
	$(BIN)/python benchmarks/plateaus.py

models: venv
	$(BIN)/python benchmarks/models.py

test: venv
	$(BIN)/python -m pytest -q -n $(WORKERS) $(ARGS)

test-all: venv
	$(BIN)/python -m pytest -q -n $(WORKERS) -m '' --hypothesis-profile=all $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: venv
	$(BIN)/ty check $(CODE)

# The environment. A changed lock starts it afresh, so that nothing unpinned survives; a changed pyproject.toml only
# installs the package again. `pip check` refuses a lock that has fallen out of pyproject.toml's ranges.
venv: $(VENV)/.installed

$(VENV)/.locked: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("toylab needs Python 3.11 or newer: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@touch $@

# One file for every Python and platform: packages that differ carry environment markers.
lock:
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(PYTHON) -m venv "$$tmp" && "$$tmp/bin/python" -m pip install --quiet uv && \
	"$$tmp/bin/uv" pip compile --quiet --universal --python-version 3.11 --upgrade --extra test --extra dev \
	    --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml >/dev/null
	@echo 'wrote requirements.lock'

clean:
	rm -rf out build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
