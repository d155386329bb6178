# make demo: the workflow on the embedded demo. make test: all tests. Both make .venv first.
PYTHON ?= python3
CORES ?= 2
BIN := .venv/bin
# Folders whose tests run beside each other and beside all others. Those of the workflow wait for Snakemake and SLURM
# much of the time, so that there may be one part more than there are cores.
WORKFLOW := tests/workflow
MODELS := tests/kernels tests/models tests/training

.PHONY: demo test test-workflow test-models test-others lint clean

demo: .venv/ready
	$(BIN)/snakemake --cores $(CORES)
	$(BIN)/snakemake --cores $(CORES) --report results/report.html
	@echo "Open results/index.html (results page) and results/report.html (Snakemake report)."

test: .venv/ready
	$(MAKE) --jobs=$$(( $(CORES) + 1 )) test-workflow test-models test-others

test-workflow: .venv/ready
	$(BIN)/python -m pytest $(WORKFLOW)

test-models: .venv/ready
	$(BIN)/python -m pytest $(MODELS)

test-others: .venv/ready
	$(BIN)/python -m pytest $(addprefix --ignore=,$(WORKFLOW) $(MODELS))

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

clean:
	rm -rf results .snakemake .pytest_cache .hypothesis .ruff_cache
