PYTHON ?= python3
PY := .venv/bin/python
# The CPU build of torch where the index has one: an unpinned torch would pull gigabytes of CUDA packages.
TORCH ?= torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all test-hub test-gpu bench check format clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -q $(TORCH) -c constraints.txt
	.venv/bin/pip install -q -e '.[offline,multilingual,demo,export,dev]' -c constraints.txt
	@# type checkers and editors do not follow the import hook of an editable install, but they read a .pth
	$(PY) -c "import site; open(site.getsitepackages()[0] + '/hftl-checkout.pth', 'w').write('$(CURDIR)\n')"
	touch .venv/ready

setup: .venv/ready ## make .venv and install everything, pinned

run: setup ## adapt two real models to two real data sets, offline
	HF_HUB_OFFLINE=1 $(PY) -m recipes.tour

# One thread each: several processes with several threads each only wait for each other. A file stays on one worker,
# with what its tests share; tests/conftest.py puts the long ones first.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: setup ## the tests (under 12 minutes on two cores)
	$(PYTEST)

test-all: setup ## the slow tests too
	$(PYTEST) -m 'not hub'

test-hub: setup ## against the real Hub: HFTL_TEST_HUB=1 make test-hub
	HFTL_TEST_HUB=1 $(PYTEST) -m hub

test-gpu: setup ## on a CUDA GPU (.venv with a CUDA torch: make setup TORCH=torch); HFTL_TEST_GPU=cpu tries its wiring
	$(PY) -m pytest tests/gpu -rs

bench: setup ## speed beside what people run today; writes benchmarks/RESULTS.md (alone on the machine)
	.venv/bin/pip install -q -e '.[bench]' -c constraints.txt
	HF_HUB_OFFLINE=1 $(PY) -m benchmarks.speed

check: setup ## lint and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: setup ## format and sort
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean: ## remove what setup and run made
	rm -rf .venv runs build dist *.egg-info
