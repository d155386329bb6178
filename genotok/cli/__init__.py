"""The command `genotok`: a verb for each stage of the workflow.

Each verb imports its room when it is called, so that `genotok --help` answers at once.
"""

import sys

# Each module adds its verbs to `app`, and `genotok --help` lists them in this order.
# isort: off
import genotok.cli.sequences
import genotok.cli.training
import genotok.cli.downstream
import genotok.cli.variants
import genotok.cli.models
import genotok.cli.attribution
import genotok.cli.motifs
import genotok.cli.report
import genotok.cli.comparison  # noqa: F401

# isort: on
from genotok.cli.app import app
from genotok.errors import InputError


def main() -> None:
    """Run the command line; bad input is one sentence on stderr and exit code 2."""
    try:
        app(prog_name="genotok")
    except InputError as error:
        print(f"genotok: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


__all__ = ["app", "main"]
