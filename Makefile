# Two commands for newcomers: `make demo` and `make test`; while you work, `make check`. Everything is idempotent;
# `make help` lists the rest.
#
# .venv        the package in place (maturin develop, dev profile) with all tools: tests, lint, types
# build/venv   the release wheel as a user has it: demo, benchmark, load test
# dist         the wheel and the source distribution to give away

PYTHON ?= python3
VENV := .venv
RELEASE := build/venv
SOURCES := $(shell find rust -type f \( -name '*.rs' -o -name Cargo.toml -o -name '*.profdata' \) 2>/dev/null) Cargo.toml Cargo.lock
PACKAGE := $(shell find python -type f ! -path '*/__pycache__/*' ! -name '*.so' 2>/dev/null)
PIP := -m pip --disable-pip-version-check --quiet

export PYTHON
export CARGO_TERM_COLOR ?= auto

.DELETE_ON_ERROR:
.PHONY: help tools build release wheels demo check test audit fmt docs loadtest bench instructions clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

demo: release ## build, start the storefront behind the edge, print URLs and curl lines (DEMO_PORT, DEMO_SECONDS)
	@exec $(RELEASE)/bin/python examples/storefront/demo.py

check: build ## format, lint, types, words, dependencies: under a minute once built
	@exec .ci/check

test: ## everything that CI runs: the checks and all tests
	@exec .ci/run

audit: build ## advisories on dependencies; needs the network
	@PATH="$$(PYTHON=$(VENV)/bin/python scripts/install-tool cargo-deny):$$PATH" cargo deny --all-features check advisories

build: $(VENV)/.built ## .venv with the package built in place and all tools

release: $(RELEASE)/.built ## the release wheel in build/wheels, installed in build/venv

wheels: $(VENV)/.made ## dist/: an abi3 wheel for glibc 2.28 and later, and an sdist; both are installed and tried
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" scripts/make-wheels dist

fmt: build ## format everything
	cargo fmt --all
	$(VENV)/bin/ruff check --quiet --fix-only .
	$(VENV)/bin/ruff format .

docs: build ## build/site: the documentation with search and the Python reference; links are checked
	@$(VENV)/bin/python scripts/make-site

loadtest: $(RELEASE)/.loadtest ## locust against the demo (LOADTEST_SECONDS, LOADTEST_USERS)
	@exec $(RELEASE)/bin/python -m loadtests.run

instructions: release ## instructions a request beside their budget (INSTRUCTIONS=--check or --write)
	@exec $(RELEASE)/bin/python -m benchmarks.instructions $(INSTRUCTIONS)

bench: release ## edgerouter beside nginx, Varnish and HAProxy (BENCH=--quick for a trial)
	@exec $(RELEASE)/bin/python -m benchmarks $(BENCH)

clean: ## remove what was built
	rm -rf $(VENV) build dist target .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find python -name '_core*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

tools:
	@scripts/check-tools

$(VENV)/.made $(RELEASE)/.made: | tools
	@echo "making the virtual environment $(@D)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP) install --upgrade pip 'maturin>=1.9,<2'
	@touch $@

$(VENV)/.built: $(VENV)/.made $(SOURCES) pyproject.toml | tools
	@echo "building for development: the first time takes some minutes"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/maturin develop --extras test,dev
	@touch $@

$(RELEASE)/.built: $(RELEASE)/.made $(SOURCES) $(PACKAGE) pyproject.toml README.md | tools
	@echo "building the release wheel: the first time takes some minutes"
	@rm -rf build/wheels
	@$(RELEASE)/bin/maturin build --release --interpreter $(RELEASE)/bin/python --out build/wheels
	@$(RELEASE)/bin/python $(PIP) install build/wheels/*.whl
	@$(RELEASE)/bin/python $(PIP) install --force-reinstall --no-deps build/wheels/*.whl
	@touch $@

$(RELEASE)/.loadtest: $(RELEASE)/.built
	@echo "installing locust"
	@wheel=$$(echo build/wheels/*.whl) && $(RELEASE)/bin/python $(PIP) install "$$wheel[loadtest]"
	@touch $@
