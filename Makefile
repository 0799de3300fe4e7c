.DEFAULT_GOAL := help
.PHONY: help setup demo test check audit bench scale brokers containers soak picture lock

INSTALLED := .venv/installed
DASHBOARD := query_api/dashboard
NPM := PATH="$(CURDIR)/.venv/bin:$$PATH" npm --prefix $(DASHBOARD)

help: ## show this help
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 14

setup: $(INSTALLED) ## create .venv with all dependencies, and install Mosquitto if it is missing

$(INSTALLED): requirements.lock pyproject.toml deploy/setup.sh $(DASHBOARD)/package-lock.json
	@sh deploy/setup.sh
	@touch $@

demo: setup ## run all of Devicestat on this machine, with simulated devices
	@.venv/bin/devicestat up --demo

test: setup ## run the tests
	.venv/bin/pytest

check: setup audit ## check format, lint, types, import direction and known vulnerabilities, of Python and JavaScript
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m tests.dashboard.records
	$(NPM) run --silent check

audit: setup ## check the dependencies for known vulnerabilities (needs internet access)
	@.venv/bin/python -m tests.audit

bench: setup ## run the benchmarks, each compared with a peer in the same run; `make bench scale`: with 100,000 devices
	@.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-bench.lock
	.venv/bin/python -m tests.benchmarks $(filter scale,$(MAKECMDGOALS))

scale: bench
	@:

containers: setup ## test deploy/compose.yaml on this machine's container engine
	.venv/bin/pytest -n 0 -m containers

brokers: setup ## run the fault tests on the brokers in the file of DEVICESTAT_TEST_BROKERS, or on Mosquitto
	.venv/bin/pytest -n 0 -m brokers tests/brokers

soak: setup ## run the long fault tests, and ten open pages for an hour
	.venv/bin/pytest -m soak

picture: setup ## draw the picture of the README again (needs Chromium)
	.venv/bin/python -m tests.dashboard.picture

lock: setup ## resolve the dependencies again; UPGRADE=--upgrade selects the latest versions
	@.venv/bin/python -m venv .venv/lock
	@.venv/lock/bin/pip install --quiet --disable-pip-version-check uv
	.venv/lock/bin/uv pip compile pyproject.toml --extra local --extra arrow --group dev --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --no-emit-index-url $(UPGRADE) --quiet -o requirements.lock
	.venv/lock/bin/uv pip compile --group bench --constraint requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --no-emit-index-url $(UPGRADE) --quiet -o requirements-bench.lock
	@cd $(DASHBOARD) && PATH="$(CURDIR)/.venv/bin:$$PATH" npm install --package-lock-only --ignore-scripts --silent
