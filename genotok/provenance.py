"""The hash of the settings and inputs behind a file, which models and scored VCFs carry."""

import os
import re

from genotok.errors import InputError

VARIABLE = "GENOTOK_PROVENANCE"


def carried_hash() -> str | None:
    """The SHA-256 that the caller wants to find in what is written, from the environment; None where there is none.

    The workflow sets it for each model and each set of variants, and explains it in its `provenance.json`.

    Raises:
        InputError: the variable holds something else.
    """
    value = os.environ.get(VARIABLE)
    if value is not None and not re.fullmatch("[0-9a-f]{64}", value):
        raise InputError(
            f"{VARIABLE}: is {value!r}, which is no SHA-256; unset it, or give 64 digits of 0-9a-f"
        )
    return value
