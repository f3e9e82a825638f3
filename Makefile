# Every command that people and the continuous integration use. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
unexport PYTHONDONTWRITEBYTECODE
PROJECTS := pyproject.toml functions/pyproject.toml scripts/install

help: ## Say what each command does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

up: .venv/.installed ## Install what is missing, start the platform, deploy the samples
	@scripts/up

down: .venv/.installed ## Stop the platform; data stay
	@.venv/bin/orchestrator down

test: .venv/.installed-dev ## Run all tests, with coverage
	@scripts/install-test-packages
	@rm -f .coverage .coverage.*
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml .venv/bin/coverage run -m pytest -n 2 --dist loadgroup $(ARGS)
	@.venv/bin/coverage combine -q
	.venv/bin/coverage report

test-vault: .venv/.installed-dev ## Run the tests of Vault again, against a real one
	@vault=$$(scripts/vault) || { echo "test-vault is skipped: there is no Vault on this machine (see above)"; exit 0; }; \
	ORCHESTRATOR_TEST_VAULT=$$vault .venv/bin/python -m pytest -q -k vault $(ARGS) \
		tests/conformance/master_keys tests/unit/encryption tests/integration/encryption

check: .venv/.installed-dev ## Lint, format, types, layers, dead code, lock files
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/vulture
	scripts/lock --check

format: .venv/.installed-dev ## Format the code and mend what the linter can mend
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

lock: .venv/.installed ## Write the lock files again; `make lock ARGS=--upgrade` moves every pin
	scripts/lock $(ARGS)

bench: .venv/.installed-dev ## Measure against the baselines; one of them with NAME=x
	@.venv/bin/python -m tests.bench $(NAME)

bench-prepare: .venv/.installed-dev ## Prepare what a benchmark needs beforehand (NAME=x)
	@.venv/bin/python -m tests.bench --prepare $(NAME)

clean: ## Remove everything that was installed or cached; data stay
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* dist
	find . -name __pycache__ -not -path './.orchestrator/*' -not -path './.bench/*' -prune -exec rm -rf {} +

.venv/.installed: requirements.lock $(PROJECTS)
	@scripts/install
	@touch $@

.venv/.installed-dev: requirements-dev.lock $(PROJECTS)
	@scripts/install dev
	@touch .venv/.installed $@

.PHONY: help up down test test-vault check format lock bench bench-prepare clean
