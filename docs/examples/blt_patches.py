"""BLT's patches: every mode of its patcher, and why DNA needs a threshold of its own.

python docs/examples/blt_patches.py
"""

import math

import torch

from genotok.models.chunkers import blt_patch_lengths, entropy_threshold

OFFSET = 4  # BLT's byte tokenizer keeps four special tokens in front
TEXT_THRESHOLD = 1.335442066192627  # nats, BLT's own


def main() -> None:
    """Cut one sequence in several ways; the entropies are those of a letter given the two before it."""
    letters = "ATATATATATGCGTGCGTACCACCACCACCAGTTAGGCATCCGA" * 4
    ids = torch.tensor([[ord(letter) + OFFSET for letter in letters]])
    entropies = torch.tensor([order_two_entropies(letters)])
    for mode, settings in (
        ("byte", {}),
        ("static", {"patch_size": 3}),
        ("space", {}),
        ("entropy", {"entropies": entropies, "threshold": TEXT_THRESHOLD}),
        ("entropy", {"entropies": entropies, "threshold": entropy_threshold(entropies, 4.0)}),
        ("entropy", {"entropies": entropies, "threshold": entropy_threshold(entropies, 4.0, max_length=6),
                     "max_patch_length": 6}),
    ):  # fmt: skip
        lengths = blt_patch_lengths(ids, mode, **settings)[0]
        lengths = lengths[lengths > 0].tolist()
        named = ", ".join(f"{key} {value:.3f}" for key, value in settings.items() if isinstance(value, float))
        print(f"{mode} {named}: {len(lengths)} patches, {len(letters) / len(lengths):.2f} letters each")
    print(
        f"BLT's threshold for text is {TEXT_THRESHOLD / math.log(4):.0%} of ln 4, the most that DNA can have"
    )


def order_two_entropies(letters: str) -> list[float]:
    """At each letter, the entropy in nats of the next one given the last two, from counts in the sequence itself."""
    counts: dict[str, dict[str, int]] = {}
    for place in range(1, len(letters) - 1):
        following = counts.setdefault(letters[place - 1 : place + 1], {})
        following[letters[place + 1]] = following.get(letters[place + 1], 0) + 1

    def entropy(context: str) -> float:
        numbers = counts.get(context, {}).values()
        return (
            -sum(n / sum(numbers) * math.log(n / sum(numbers)) for n in numbers) if numbers else math.log(4)
        )

    return [entropy(letters[max(place - 1, 0) : place + 1]) for place in range(len(letters))]


if __name__ == "__main__":
    main()
