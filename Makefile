# Two commands for a newcomer: `make up` runs the whole system, `make test` passes the tests.
# Both do all their own set-up. `make help` lists the rest. PYTHON=... names the interpreter to do it with.

VENV := .venv
BIN := $(VENV)/bin
INSTALL = @PYTHON="$(PYTHON)" .ci/install.sh
# Where a shell says that no bytecode is written, each process that a test starts would compile all of the gateway.
export PYTHONDONTWRITEBYTECODE =
.DEFAULT_GOAL := help
.PHONY: help up test test-newest lint unit cluster-test bench lock clean $(VENV)/.up $(VENV)/.test

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# Asked each time, which takes 50 ms: no time stamp tells that the folder was moved or that its Python is gone.
$(VENV)/.up:
	$(INSTALL) $(VENV) up backends

$(VENV)/.test:
	$(INSTALL) $(VENV) test test

up: $(VENV)/.up ## Run the whole system on the embedded store (Ctrl-C stops it)
	@exec $(BIN)/gateway up -c config/gateway.conf

test: lint unit ## Lint, types and all tests

test-newest: ## The same with the newest of all packages, beyond constraints.txt, in an environment of its own
	$(INSTALL) $(VENV)-newest test test newest
	@$(VENV)-newest/bin/ruff check gateway backends tests .ci
	@$(VENV)-newest/bin/mypy
	@$(VENV)-newest/bin/python -m pytest

lint: $(VENV)/.test ## ruff and mypy --strict
	@$(BIN)/ruff check gateway backends tests .ci
	@$(BIN)/mypy

unit: $(VENV)/.test ## The tests alone
	@$(BIN)/python -m pytest

cluster-test: $(VENV)/.test ## Three nodes in network namespaces, killed, paused, cut off (as root; 2 minutes)
	@$(BIN)/python -m tests.cluster

bench: $(VENV)/.test ## Measure, beside what is installed of nginx, HAProxy and Caddy
	@$(BIN)/python -m tests.bench

lock: $(VENV)/.up ## Renew constraints.txt: the newest of all packages that pyproject.toml allows
	@$(BIN)/python .ci/lock.py

clean: ## Remove the virtual environments and all local data
	rm -rf $(VENV) $(VENV)-newest var .mypy_cache .ruff_cache .hypothesis *.egg-info
	rm -rf backends/identity/build backends/identity/*.egg-info
