# Two commands for a newcomer: `make up` runs the whole system, `make test` passes the tests.
# Both do all their own set-up. `make help` lists the rest.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: help up test lint unit bench clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-7s %s\n", $$1, $$2}'

# One stamp per set of extras; a changed pyproject.toml installs anew.
$(VENV)/.up: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the gateway and its backends into $(VENV) (once, about half a minute) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[backends]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the gateway, its backends and the test tools into $(VENV) (once, about half a minute) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/.up

up: $(VENV)/.up ## Run the whole system on the embedded store (Ctrl-C stops it)
	@exec $(BIN)/gateway up -c config/gateway.conf

test: lint unit ## Lint, types and all tests

lint: $(VENV)/.test ## ruff and mypy --strict
	@$(BIN)/ruff check gateway backends tests
	@$(BIN)/mypy

unit: $(VENV)/.test ## The tests alone
	@$(BIN)/python -m pytest

bench: $(VENV)/.test ## Measure, beside what is installed of nginx, HAProxy and Caddy
	@$(BIN)/python -m tests.bench

clean: ## Remove the virtual environment and all local data
	rm -rf $(VENV) var .mypy_cache .ruff_cache *.egg-info
