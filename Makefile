# Every target that needs .venv creates it first, with plain pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: quickstart test slow lint bench chaos fuzz hostile coverage docs reference gallery example-ledgers notebooks clean help

help:
	@echo "make quickstart   install, run the quickstart study and draw its front"
	@echo "make test         install and run the default tests"
	@echo "make slow         install and run the slow tests (many start Ray)"
	@echo "make lint         install and run ruff and mypy"
	@echo "make bench        install, run the benchmarks and print tables of timings"
	@echo "make chaos        install, inject faults into running studies and print the results"
	@echo "make fuzz         install and read 20,000 mutated studies (ten minutes)"
	@echo "make hostile      install and run every verb in every hostile environment (half an hour)"
	@echo "make coverage     install, simulate ablations with known effects and draw docs/coverage.png"
	@echo "make docs         install and build the documentation site in results/site"
	@echo "make reference    install and write docs/reference from the code"
	@echo "make gallery      install and draw the figures of docs/gallery.md (two minutes)"
	@echo "make example-ledgers  install and train the shipped ledgers (about half an hour)"
	@echo "make notebooks    install, run the notebooks and write them with their outputs (a minute)"
	@echo "make clean        remove .venv, results and caches"

$(STAMP): pyproject.toml
	@echo "==> creating $(VENV) and installing partialnas into it (a few minutes, several GB)"
	@$(PYTHON) -c 'import sys; sys.exit("partialnas needs Python 3.11 or newer: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $(STAMP)

quickstart: $(STAMP)
	@echo "==> running search/studies/quickstart.yaml (under 3 minutes on two cores)"
	$(BIN)/partialnas run search/studies/quickstart.yaml --out results/quickstart
	$(BIN)/partialnas pareto results/quickstart -x throughput_img_s -y val_accuracy -o results/quickstart/front.pdf

test: $(STAMP)
	@echo "==> running the default tests (make slow runs the slow ones)"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8

slow: $(STAMP)
	@echo "==> running the slow tests"
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
	@echo "==> benchmarking the harness, training and inference"
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/overhead.py --sleep 1 --rounds 1
	$(BIN)/python benchmarks/scale.py --ledger results/large
	$(BIN)/python benchmarks/analysis_speed.py results/large
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/launches.py
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/measuring.py

chaos: $(STAMP)
	@echo "==> injecting faults into running studies (ten minutes on two cores)"
	$(BIN)/python benchmarks/chaos.py

fuzz: $(STAMP)
	@echo "==> reading 20,000 mutated studies (ten minutes)"
	$(BIN)/python benchmarks/fuzz.py

hostile: $(STAMP)
	@echo "==> running every verb in every hostile environment (half an hour)"
	$(BIN)/python benchmarks/hostile.py

coverage: $(STAMP)
	@echo "==> simulating ablations with known effects (about ten minutes on two cores)"
	$(BIN)/python benchmarks/coverage_study.py --figure docs/coverage.png

docs: $(STAMP)
	@echo "==> building the documentation site in results/site"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

reference: $(STAMP)
	@echo "==> writing docs/reference from the code"
	$(BIN)/python docs/reference.py

gallery: $(STAMP)
	@echo "==> drawing the figures of docs/gallery.md from the shipped ledgers"
	$(BIN)/python docs/gallery.py

example-ledgers: $(STAMP)
	@echo "==> training the shipped ledgers (about half an hour on two cores)"
	$(BIN)/python analysis/notebooks/make_ledgers.py

notebooks: $(STAMP)
	@echo "==> running the notebooks and writing them with their outputs"
	$(BIN)/python analysis/notebooks/make_notebooks.py

clean:
	@echo "==> removing $(VENV), results and caches"
	rm -rf $(VENV) results build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
