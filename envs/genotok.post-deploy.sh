#!/usr/bin/env bash
# Runs after the environment is made; the Snakefile exports where the workflow lies.
set -euo pipefail
python -m pip install --no-deps "${GENOTOK_SOURCE:?the Snakefile sets GENOTOK_SOURCE}"
