"""How many chunks have each length, as the metrics of `genotok evaluate` list them.

Without torch, so that figures are drawn without it.
"""

from collections.abc import Mapping

LONGEST_LISTED_CHUNK = 64


def listed_lengths(counts: Mapping[int, int]) -> dict[str, int]:
    """Numbers of chunks by length, ascending; chunks of the longest listed length or more are one entry."""
    listed: dict[int, int] = {}
    for length in sorted(counts):
        place = min(length, LONGEST_LISTED_CHUNK)
        listed[place] = listed.get(place, 0) + counts[length]
    return {str(length): count for length, count in listed.items()}
