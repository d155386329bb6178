# make demo: the workflow on the embedded demo. make test: all tests. Both make .venv first.
PYTHON ?= python3
CORES ?= 2
BIN := .venv/bin

.PHONY: demo test test-workflow test-package lint clean

demo: .venv/ready
	$(BIN)/snakemake --cores $(CORES)
	$(BIN)/snakemake --cores $(CORES) --report results/report.html
	@echo "Open results/index.html (results page) and results/report.html (Snakemake report)."

# Two halves side by side: those of the workflow wait for Snakemake and SLURM much of the time.
test: .venv/ready
	$(MAKE) --jobs=$(CORES) test-workflow test-package

test-workflow: .venv/ready
	$(BIN)/python -m pytest tests/workflow

test-package: .venv/ready
	$(BIN)/python -m pytest --ignore=tests/workflow

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
