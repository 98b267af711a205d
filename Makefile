# `make` lists the targets. Everything runs from .venv, which `make setup` creates from the lock file.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Contains the version, so that a different PYTHON rebuilds the environment.
SETUP := $(VENV)/.complete-$(shell $(PYTHON) -c 'import platform; print(platform.python_version())')
T ?= tests
# Number of test processes. Each process runs whole files, in the order of collection, which happens to put the slow
# ones first. More processes than cores pay off, because most tests wait more than they compute.
JOBS ?= 4
PYTEST := pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
# Part of the package, because the edge serves it.
OPENAPI := generated/killrvideo/user/v1/openapi.json
GENERATED := generated deploy/envoy.yaml

.PHONY: help setup run web test coverage test-astra lint check bench format generate lock clean

help: ## list the targets
	@grep -hE '^(##@|[a-z-]+:.*## )' $(MAKEFILE_LIST) | sed -E 's/^##@ (.*)/\n\1/; s/^([a-z-]+):.*## /  \1\t/' | expand -t 14

##@ Run it

setup: $(SETUP) ## create .venv with all dependencies, from the lock file

# --no-index: install nothing that is not in the lock file, not even to build the package.
$(SETUP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	@touch $@

run: $(SETUP) ## start the service on 127.0.0.1:50051, with accounts in ./data
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec $(BIN)/killrvideo-grpc serve

web: $(SETUP) ## start the service and its REST edge (Envoy) on 127.0.0.1:8080; GRPC_PORT and HTTP_PORT change ports
	@exec $(BIN)/killrvideo-grpc edge web

##@ Test it

test: $(SETUP) ## run all tests, or some: make test T=tests/rpc
	$(BIN)/python -m $(PYTEST) $(T)

coverage: $(SETUP) ## run the in-process tests; fail if coverage is below the floor in pyproject.toml
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m $(PYTEST) tests/unit tests/stores tests/rpc
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

test-astra: $(SETUP) ## run the store and end-to-end suites against the real Data API at TEST_DATA_API_URL
	@for name in TEST_DATA_API_URL TEST_DATA_API_USERNAME TEST_DATA_API_PASSWORD; do \
		printenv $$name >/dev/null || missing="$$missing $$name"; done; \
		test -z "$$missing" || { echo "Not set:$$missing. They must give a self-hosted Data API on Apache Cassandra and a user" \
		"who may create and drop keyspaces; see docs/astra.md."; exit 1; }
	$(BIN)/python -m pytest -k data-api tests/stores/test_store_contract*.py tests/e2e/test_end_to_end*.py

bench: $(SETUP) ## run the benchmarks; PART=storm runs one part, PART=--help lists them
	$(BIN)/python -m tests.bench $(PART)

##@ Change it

lint: $(SETUP) ## check style, types and layering: the quick part of check
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
	$(BIN)/killrvideo-grpc edge config --workers 3 --origin 'https://killrvideo\.example' >$(VENV)/envoy.yaml
	$(BIN)/envoy --mode validate --log-level error -c $(VENV)/envoy.yaml

format: $(SETUP) ## format Python and proto files
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/buf format -w protos

generate: $(SETUP) ## make generated/ and deploy/envoy.yaml from protos/ and killrvideo_grpc/edge/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python protos/generate.py
	$(BIN)/python -m killrvideo_grpc.edge.openapi <generated/api.binpb >$(VENV)/openapi.json
	mv $(VENV)/openapi.json $(OPENAPI)
	$(BIN)/killrvideo-grpc edge config --host 0.0.0.0 --service-host service >deploy/envoy.yaml

lock: ## update both lock files (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
		--no-emit-find-links --upgrade --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
		--no-emit-find-links --upgrade --custom-compile-command "make lock" pyproject.toml --group dev --extra otel \
		-c requirements.lock -o requirements-dev.lock

clean: ## remove .venv and caches; accounts in ./data stay
	rm -rf .venv* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage*
