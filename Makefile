# Each target makes .venv on its own, with plain pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: quickstart test slow lint bench chaos coverage docs example-ledgers clean help

help:
	@echo "make quickstart   install, run the quickstart study, draw its front"
	@echo "make test         install, run the default tests"
	@echo "make slow         install, run the tests marked slow (they start Ray)"
	@echo "make lint         install, run ruff and mypy"
	@echo "make bench        install, print the tables of timings"
	@echo "make chaos        install, do to studies what machines do to them, print what came of it"
	@echo "make coverage     install, simulate ablations of known truth, draw docs/coverage.png"
	@echo "make docs         install, write the documentation site to results/site"
	@echo "make example-ledgers  install, train what the notebooks read (about ten minutes)"
	@echo "make clean        remove .venv, results and caches"

$(STAMP): pyproject.toml
	@echo "==> making $(VENV) and installing partialnas into it (a few minutes, several GB)"
	@$(PYTHON) -c 'import sys; sys.exit("partialnas needs Python 3.11 or newer: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $(STAMP)

quickstart: $(STAMP)
	@echo "==> running search/studies/quickstart.yaml (under 3 minutes on two cores)"
	$(BIN)/partialnas run search/studies/quickstart.yaml --out results/quickstart
	$(BIN)/partialnas pareto results/quickstart -x throughput_img_s -y val_accuracy -o results/quickstart/front.pdf

test: $(STAMP)
	@echo "==> running the default tests (make slow runs the others)"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8

slow: $(STAMP)
	@echo "==> running the tests marked slow"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow -n auto --maxprocesses 8 --dist worksteal --durations=40

lint: $(STAMP)
	@echo "==> checking style and types"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

results/large/ledger.sqlite: | $(STAMP)
	@echo "==> building a ledger of 100,000 trials (a few minutes)"
	$(BIN)/python benchmarks/large_ledger.py results/large

bench: $(STAMP) results/large/ledger.sqlite
	@echo "==> timing the harness, training and inference"
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/overhead.py --sleep 1 --rounds 1
	$(BIN)/python benchmarks/scale.py --ledger results/large
	$(BIN)/python benchmarks/analysis_speed.py results/large
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/measuring.py

chaos: $(STAMP)
	@echo "==> killing, filling, tearing and interrupting (ten minutes on two cores)"
	$(BIN)/python benchmarks/chaos.py

coverage: $(STAMP)
	@echo "==> simulating ablations of known truth (about ten minutes on two cores)"
	$(BIN)/python benchmarks/coverage_study.py --figure docs/coverage.png

docs: $(STAMP)
	@echo "==> writing the documentation to results/site"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

example-ledgers: $(STAMP)
	@echo "==> training what the notebooks read (about ten minutes on two cores)"
	$(BIN)/python analysis/notebooks/make_ledgers.py

clean:
	@echo "==> removing $(VENV), results and caches"
	rm -rf $(VENV) results build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
