# `make demo` and `make test` need Python 3.11 or newer, and nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Pins are constraints, and the installer is pip: where pip is configured with a CPU build of
# torch, that one is taken instead of several GB of GPU packages.
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c requirements.lock
# The installer compiles on one core, this on all of them. Some packages have files for other Pythons.
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true

# The tests wait for real processes more than they compute: with four, two cores are idle a fifth
# of the time.
WORKERS ?= 5

# With MEASURE=1 the tests note which branches run, in children too; `make percent` adds them up.
TESTS := $(BIN)/python $(if $(MEASURE),-m coverage run) -m pytest

# Where Python is told to write no bytecode, every process of every test compiles all modules again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help demo test extended quick coverage again check lint types contracts format slow stress defects mutants gpu audit sbom docs site clean percent
help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

# Says how long the commands before it took, since the file `.began` was made.
BEGIN   = @mkdir -p $(VENV) && date +%s > $(VENV)/.began
ENDED   = @echo "$(1): $$(($$(date +%s) - $$(cat $(VENV)/.began))) s"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The second distribution of this repository. Both are named in one command: the first requires
# the second, which is then not looked for on the package index.
EMULATORS := backends/drillyard_emulators

$(VENV)/.demo: pyproject.toml $(EMULATORS)/pyproject.toml requirements.lock Makefile | $(BIN)/python
	$(BEGIN)
	$(PIP) torch==2.13.0
	$(call ENDED,torch is installed)
	$(BEGIN)
	$(PIP) -e '.[control,rl,export,serve]' -e $(EMULATORS)
	$(COMPILE)
	$(call ENDED,drillyard and its packages are installed)
	@touch $@

$(VENV)/.dev: pyproject.toml $(EMULATORS)/pyproject.toml requirements.lock Makefile | $(BIN)/python
	$(PIP) torch==2.13.0
	$(PIP) -e '.[dev]' -e $(EMULATORS)
	$(COMPILE)
	@touch $@ $(VENV)/.demo

# Microsoft's emulator of blob storage, in Node.js. Without npm its tests say that they were skipped.
$(VENV)/.azurite: tests/azurite/package-lock.json | $(BIN)/python
	@mkdir -p $(VENV)/azurite && cp tests/azurite/package*.json $(VENV)/azurite
	@if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund --ignore-scripts --prefix $(VENV)/azurite && touch $@; \
	else echo "npm is not installed: the tests of Azure's blob storage are skipped"; fi

# The checker of accessibility, one file of JavaScript. Without npm its tests say that they were skipped.
$(VENV)/.axe: tests/axe/package-lock.json | $(BIN)/python
	@mkdir -p $(VENV)/axe && cp tests/axe/package*.json $(VENV)/axe
	@if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund --ignore-scripts --prefix $(VENV)/axe && touch $@; \
	else echo "npm is not installed: the tests of accessibility are skipped"; fi

# Audits and lists packages from outside, so that its own packages are not among them.
$(VENV)/.tools: tests/supply_chain/requirements.txt | $(BIN)/python
	$(BIN)/python -m venv --clear $(VENV)/tools
	$(VENV)/tools/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

demo: $(VENV)/.demo ## train an agent on the reactor, see how it compares, open the report
	$(BEGIN)
	$(BIN)/drillyard run experiments/cstr.yaml
	$(call ENDED,the run)

test: $(VENV)/.dev $(VENV)/.azurite $(VENV)/.axe $(VENV)/.tools ## the default tests, in five processes
	$(TESTS) -n $(WORKERS)

# What proves again, for other learners, backends and kinds of loss, what the default tests prove.
NO_SLOW := not slow and not gpu and not live_gcp and not live_azure

extended: $(VENV)/.dev $(VENV)/.azurite $(VENV)/.axe ## the tests that tests/extended.txt lists, in five processes
	$(BIN)/python -m pytest -n $(WORKERS) -m 'extended and $(NO_SLOW)'

# The rules of all packages and of the documents, on two cores in about a minute.
QUICK := tests/unit tests/docs tests/contract/test_stores.py $(addprefix tests/contract/driver/,test_session.py test_tickets.py)

quick: $(VENV)/.dev ## the tests that start no process and no server, and train nothing
	$(BIN)/python -m pytest -n 2 --quick $(QUICK)

coverage: $(VENV)/.dev ## branch coverage of `make test`, which it runs; fails under the floor in pyproject.toml
	$(BIN)/python -m coverage erase
	$(MAKE) test MEASURE=1
	$(MAKE) percent

percent: ## branch coverage of what ran with MEASURE=1, in percent
	@$(BIN)/python -m coverage combine --quiet
	@rm -f .coverage.*  # what a killed process had begun to write
	@echo "Branch coverage, in percent:"
	@$(BIN)/python -m coverage report

again: $(VENV)/.dev ## the tests that failed last time, each by itself; names those that pass now as flaky
	$(TESTS) --last-failed --last-failed-no-failures none -m '$(NO_SLOW)'

slow: $(VENV)/.dev $(VENV)/.azurite ## the long tests, in two processes: hundreds of kills, full budgets
	$(BIN)/python -m pytest -n 2 -m slow

TIMES ?= 20
stress: $(VENV)/.dev ## tests/stress.txt, 20 times each beside two busy processes: fails for a flaky test
	$(BIN)/python -m pytest -q --tb=no -p tests.helpers.stress --times $(TIMES) @tests/stress.txt

# The least of several tables (docs/contributing/simulation.md): chance may miss a defect in a night.
DEFECTS_FLOOR ?= 36
defects: $(VENV)/.dev ## put each known defect back: how soon the simulation finds it
	$(BIN)/python -m tests.simulation --defect all --seconds 60 --floor $(DEFECTS_FLOOR)

# Hours. It continues after a kill. BASELINE=1 draws the mutants of tests/mutants/baseline.json again.
SAMPLE ?= 300
mutants: $(VENV)/.dev ## which small mistakes the tests notice: SAMPLE=300 SEED=8c0ffee1, or BASELINE=1
	$(BIN)/python -m tests.mutants $(if $(BASELINE),--baseline,--sample $(SAMPLE) $(if $(SEED),--seed $(SEED))) $(if $(LAYERS),--layers $(LAYERS))

gpu: $(VENV)/.dev ## what needs a GPU, where there is one
	$(BIN)/python -m pytest -m gpu tests/contract/test_gpu.py

check: lint types contracts ## style, types, import contracts

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

audit: $(VENV)/.tools ## known vulnerabilities of the locked packages; says when no database answered
	$(BIN)/python -m tests.supply_chain.audit $(VENV)/tools/bin/pip-audit

SBOM ?= dist/sbom.cdx.json
sbom: $(VENV)/.dev $(VENV)/.tools ## a bill of materials (CycloneDX) of the installed packages
	@mkdir -p $(dir $(SBOM))
	$(VENV)/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o $(SBOM) $(BIN)/python
	@echo "$(SBOM)"

# Material announces its successor at each build.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs

site: $(VENV)/.dev ## the documentation as a site in build/site; a broken link fails it
	$(MKDOCS) build --strict

docs: site ## build the documentation, then serve it at http://127.0.0.1:8000
	$(MKDOCS) serve

clean: ## remove what these commands made, but no results
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
