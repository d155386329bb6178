"""The fields that scoring adds: header, INFO column and Parquet table all follow this one list."""

from collections.abc import Sequence
from typing import NamedTuple

from genotok.errors import InputError
from genotok.variants.alleles import STATUSES

_RATIO = "ln p(ALT window) - ln p(REF window) in nats; negative = the model finds ALT less likely"


LLR, LLR_FORWARD, LLR_REVERSE, STATUS = "GENOTOK_LLR", "GENOTOK_LLR_FWD", "GENOTOK_LLR_RC", "GENOTOK_STATUS"


class ScoreField(NamedTuple):
    """A value for each ALT allele.

    Attributes:
        info: its name in the INFO column.
        column: its name in the Parquet table.
        kind: `Float` or `String`.
        description: for the VCF's header.
        choice: what it is asked for by; None where it is always there.
    """

    info: str
    column: str
    kind: str
    description: str
    choice: str | None = None


# The order is that of the values of an allele, wherever they stand.
FIELDS = (
    ScoreField(LLR, "llr", "Float", f"Log-likelihood ratio, mean of the scored strands: {_RATIO}"),
    ScoreField(LLR_FORWARD, "llr_fwd", "Float", "Log-likelihood ratio on the forward strand"),
    ScoreField(LLR_REVERSE, "llr_rc", "Float", "Log-likelihood ratio on the reverse strand"),
    ScoreField(STATUS, "status", "String", f"ok, or why the allele has no score: {', '.join(STATUSES[1:])}"),
    ScoreField(
        "GENOTOK_L2",
        "l2",
        "Float",
        "Euclidean distance of the mean hidden states of both windows, mean of the scored strands",
        "embedding",
    ),
    ScoreField(
        "GENOTOK_COSINE",
        "cosine",
        "Float",
        "1 - cosine of the mean hidden states of both windows, mean of the scored strands",
        "embedding",
    ),
    ScoreField(
        "GENOTOK_BOUNDARY_SHIFT",
        "boundary_shift",
        "Float",
        "Share of the letters of both windows outside the variant at which one window alone begins a chunk, "
        "mean of the scored strands",
        "boundaries",
    ),
)
_ON_HAPLOTYPE = (
    "Log-likelihood ratio on haplotype {number} of sample {{sample}}, with its phased variants around in both "
    "windows, mean of the scored strands; missing where the haplotype does not carry the allele"
)
# Behind all others, where the haplotypes of a sample are scored; the descriptions are to be filled in.
HAPLOTYPE_FIELDS = (
    *(
        ScoreField(f"GENOTOK_LLR_H{number}", f"llr_h{number}", "Float", _ON_HAPLOTYPE.format(number=number))
        for number in (1, 2)
    ),
    ScoreField(
        "GENOTOK_HAPLOTYPE_STATUS",
        "haplotype_status",
        "String",
        "On the haplotypes of sample {sample}: ok, or why there is no score (not_carried, unphased, or what "
        f"{STATUS} says), or what the score leaves out (unphased_neighbour, skipped_neighbour)",
    ),
)
DEFAULT_FIELDS = tuple(field for field in FIELDS if field.choice is None)
CHOICES = tuple(dict.fromkeys(field.choice for field in FIELDS if field.choice))

Value = float | str | None


def chosen_fields(choices: Sequence[str]) -> tuple[ScoreField, ...]:
    """The fields that are always there and those of the choices, in the order of the list.

    Raises:
        InputError: there is no such choice.
    """
    for choice in choices:
        if choice not in CHOICES:
            raise InputError(f"fields: {choice!r} is unknown; known are {', '.join(CHOICES)}")
    return tuple(field for field in FIELDS if field.choice is None or field.choice in choices)


def info_text(fields: Sequence[ScoreField], alleles: Sequence[Sequence[Value]]) -> bytes:
    """The score fields of a record as INFO writes them, numbers to 6 significant digits.

    Args:
        fields: which.
        alleles: for each ALT allele its values, one a field; None for what is not there.

    Returns:
        The text, empty where the record has no ALT allele.
    """
    if not alleles:
        return b""
    columns = zip(*alleles, strict=True)
    entries = [
        f"{field.info}={','.join(map(_written, column))}"
        for field, column in zip(fields, columns, strict=True)
    ]
    return ";".join(entries).encode()


def _written(value: Value) -> str:
    if value is None:
        return "."
    return value if isinstance(value, str) else f"{value:.6g}"
