# make demo: the workflow on the embedded demo. make test: all tests. Both make .venv first.
PYTHON ?= python3
CORES ?= 2
BIN := .venv/bin
# Folders whose tests run beside all others; those of the workflow wait for Snakemake and SLURM much of the time.
HALF := tests/workflow

.PHONY: demo test test-half test-other-half lint clean

demo: .venv/ready
	$(BIN)/snakemake --cores $(CORES)
	$(BIN)/snakemake --cores $(CORES) --report results/report.html
	@echo "Open results/index.html (results page) and results/report.html (Snakemake report)."

test: .venv/ready
	$(MAKE) --jobs=$(CORES) test-half test-other-half

test-half: .venv/ready
	$(BIN)/python -m pytest $(HALF)

test-other-half: .venv/ready
	$(BIN)/python -m pytest $(addprefix --ignore=,$(HALF))

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
