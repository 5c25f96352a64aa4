# make venv PYTHON=python3.12            choose the interpreter (3.11 or 3.12)
# make venv ONEDP_TORCH_INDEX=<index>    one more package index, for example one with CPU-only builds of PyTorch
# make test ARGS="-m 'not slow'"         further arguments for pytest

.DEFAULT_GOAL := help
.PHONY: help venv simulators ray test lint format demo wheel clean

BIN := .venv/bin

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@sed -n 's/^# \(make .*\)/\1/p' $(MAKEFILE_LIST)

venv: ## prepare .venv with pinned dependencies (instant when nothing changed)
	@sh scripts/venv.sh

simulators: venv ## add robosuite and Meta-World to .venv (about 200 MB; no compiler needed)
	$(BIN)/python -m pip install --no-deps -r requirements/simulators.txt

ray: venv ## add Ray to .venv (about 80 MB), for --ray and its tests
	$(BIN)/python -m pip install --constraint requirements/lock.txt -r requirements/ray.txt

test: lint ## all checks and all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto $(ARGS)

lint: venv ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: venv ## rewrite the code in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: venv ## distil, evaluate and report with what the package ships (offline, under 10 minutes)
	$(BIN)/onedp demo --out demo-out

wheel: venv ## build dist/onedp-*.whl
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

clean: ## remove what the other targets made
	rm -rf .venv dist build demo-out .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src -name __pycache__ -type d -prune -exec rm -rf {} +
