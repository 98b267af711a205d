# `make` lists the targets. Everything runs from .venv; each target installs what it needs there, from the lock files.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One stamp for each stage of the environment. A different PYTHON has other names, and rebuilds it.
VERSION := $(shell $(PYTHON) -c 'import platform; print(platform.python_version())')
RUN := $(VENV)/.run-$(VERSION)
WEB := $(VENV)/.web-$(VERSION)
ALL := $(VENV)/.all-$(VERSION)
# The lock files are complete. --no-deps: they leave out Django, which Swagger UI's files come with.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --no-deps
T ?= tests
# Each process that runs tests imports all of them, and pytest compiles what Python keeps no bytecode of.
unexport PYTHONDONTWRITEBYTECODE
# Processes that run tests, a file at a time in the order of collection. Unit tests leave no core idle, and the files
# with most of them go first.
JOBS ?= $(if $(filter tests/unit%,$(T)),2,4)
PYTEST := pytest -n $(JOBS) --dist loadfile $(if $(filter tests/unit%,$(T)),,--no-loadscope-reorder)
OPENAPI := generated/killrvideo/user/v1/openapi.json
GENERATED := generated deploy/envoy.yaml

.PHONY: help setup run web stubs test coverage test-astra test-images mutants lint check bench format generate lock clean

help: ## list the targets
	@grep -hE '^(##@|[a-z-]+:.*## )' $(MAKEFILE_LIST) | sed -E 's/^##@ (.*)/\n\1/; s/^([a-z-]+):.*## /  \1\t/' | expand -t 14

##@ Run it

run: $(RUN) ## start the service on 127.0.0.1:50051, with accounts in ./data
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec $(BIN)/killrvideo-grpc serve

web: $(WEB) ## start the service and its REST edge (Envoy) on 127.0.0.1:8080; GRPC_PORT and HTTP_PORT change ports
	@exec $(BIN)/killrvideo-grpc edge web

stubs: $(RUN) ## build the wheel killrvideo-user-stubs, for callers, in dist/
	cd protos && "$(CURDIR)/$(BIN)/hatchling" build --target wheel --directory ../dist

setup: $(ALL) ## install everything into .venv, and do nothing else

# --no-index: build the package with locked tools only.
$(RUN): requirements.lock requirements-run.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --require-hashes -r requirements.lock -r requirements-run.lock
	$(PIP) --no-index --no-build-isolation -e .
	@touch $@

$(WEB): $(RUN) requirements-web.lock
	$(PIP) --require-hashes -r requirements-web.lock
	@touch $@

# Tests start many processes, so compile all packages once.
$(ALL): $(WEB) requirements-dev.lock
	$(PIP) --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib
	@touch $@

##@ Test it

test: $(ALL) ## run all tests, or some: make test T=tests/rpc
	$(BIN)/python -m $(PYTEST) $(T)

coverage: $(ALL) ## run the in-process tests; fail if coverage is below the floor in pyproject.toml
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m $(PYTEST) tests/unit tests/stores tests/rpc
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

test-astra: $(ALL) ## run the store and end-to-end suites against the real Data API at TEST_DATA_API_URL
	@for name in TEST_DATA_API_URL TEST_DATA_API_USERNAME TEST_DATA_API_PASSWORD; do \
		printenv $$name >/dev/null || missing="$$missing $$name"; done; \
		test -z "$$missing" || { echo "Not set:$$missing. They must give a self-hosted Data API on Apache Cassandra and a user" \
		"who may create and drop keyspaces; see docs/astra.md."; exit 1; }
	$(BIN)/python -m pytest -k data-api tests/stores/test_store_contract*.py tests/e2e/test_end_to_end*.py

test-images: $(ALL) ## build the container images without an engine and use them; needs root, buildah and debootstrap
	$(BIN)/python -m tests.images

mutants: $(ALL) ## break the code in many places and see a test fail for each; takes minutes
	$(BIN)/python -m tests.mutants $(PART)

bench: $(ALL) ## run the benchmarks; PART=storm runs one part, PART=--help lists them
	$(BIN)/python -m tests.bench $(PART)

##@ Change it

lint: $(ALL) ## check style, types and layering: the quick part of check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint ## lint, contract and edge; and that generated files are up to date
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/buf lint generated/api.binpb --path killrvideo
	.ci/breaking
	$(MAKE) generate
	@test -z "$$(git status --porcelain $(GENERATED))" || { git status --short $(GENERATED); echo "These are not up to date: run make generate and commit them"; exit 1; }
	$(BIN)/envoy --mode validate --log-level error -c deploy/envoy.yaml
	$(BIN)/killrvideo-grpc edge config --workers 3 --origin 'https://killrvideo\.example' --docs >$(VENV)/envoy.yaml
	$(BIN)/envoy --mode validate --log-level error -c $(VENV)/envoy.yaml
	$(BIN)/killrvideo-grpc edge config --siblings http://siblings:8000 >$(VENV)/envoy.yaml
	$(BIN)/envoy --mode validate --log-level error -c $(VENV)/envoy.yaml

format: $(ALL) ## format Python and proto files
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/buf format -w protos

generate: $(ALL) ## make generated/ and deploy/envoy.yaml from protos/ and killrvideo_grpc/edge/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python protos/generate.py
	$(BIN)/python -m killrvideo_grpc.edge.openapi <generated/api.binpb >$(VENV)/openapi.json
	mv $(VENV)/openapi.json $(OPENAPI)
	$(BIN)/killrvideo-grpc edge config --host 0.0.0.0 --service-host service >deploy/envoy.yaml

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: ## update the lock files (needs uv)
	$(COMPILE) --upgrade pyproject.toml -o requirements.lock
	$(COMPILE) --upgrade pyproject.toml --extra otel --group dev -c requirements.lock -o requirements-dev.lock
	$(COMPILE) pyproject.toml --extra otel -c requirements-dev.lock -o requirements-otel.lock
	$(COMPILE) --group run -c requirements-dev.lock -o requirements-run.lock
	$(COMPILE) --group web -c requirements-dev.lock -o requirements-web.lock

clean: ## remove .venv and caches; accounts in ./data stay
	rm -rf .venv* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage*
