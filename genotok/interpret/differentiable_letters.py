"""A model as a function of the letters of a region, with gradients that reach the letters.

Tokens are discrete, so the letters of the region enter as rows of numbers x (L, 5), how much of A, C, G, T and N
there is at each place; their embedding is the mixture of the embeddings of these letters. At a one-hot x the model
gives exactly what it gives for the letters, since the ids of all else stay as they are. In a likelihood a letter is
read and predicted: at a place that is part A and part C the log-likelihoods of A and C count in these parts, and N
counts nothing, so that f is at every one-hot x the log-likelihood of these very letters.

Where chunks begin is a choice, and a choice has no derivative. H-Net's way round it is the straight-through
estimator: the gradient of training passes through the boundaries' probabilities although the forward pass does not
change with them. It is the gradient of no function, and what it attributes need not sum to a difference of outputs.
Hence the boundaries, with their probabilities, can be held as the model finds them in the true sequence: then the
output is a smooth function of x, integrated gradients sum to f(x) - f(baseline), and what a letter does by moving a
boundary is not attributed (mutagenesis shows it). Otherwise the model routes each input anew, and the gap to
completeness says how far off the sum is. Entropies that a chunker reads are always those of the true sequence.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelOutput
from genotok.models.chunkers.routing import Boundaries
from genotok.models.stage import Stage
from genotok.tokenizers import LetterTokenizer, Tokenizer

LETTERS = "ACGT"
COLUMNS = LETTERS + "N"


@dataclass
class Reading:
    """One sequence that the model reads, and which of its tokens stand for letters of the region.

    Attributes:
        ids: (T,) int64 tokens, with the start token where there is one.
        places: (K,) int64 tokens that may become others.
        letters: (K,) int64, the letter of the region that each of them stands for, counted from 0.
        counted: (T,) bool, the tokens whose log-likelihoods sum to the output; not used by prediction heads.
        sign: what the output counts in the function, 1 or -1.
        boundaries: those of the true sequence, outermost stage first, where they are held.
    """

    ids: Tensor
    places: Tensor
    letters: Tensor
    counted: Tensor
    sign: float = 1.0
    boundaries: list[Boundaries] | None = None

    def with_letters(self, codes: Tensor, letter_ids: Tensor) -> Tensor:
        """(B, T) ids with the region's letters (B, L), 0 to 3 for A, C, G and T, in their places."""
        ids = self.ids.expand(len(codes), -1).clone()
        ids[:, self.places] = letter_ids[codes[:, self.letters]]
        return ids


class LogLikelihood:
    """Output of a language model: log p of the counted tokens given those before, in nats."""

    task = "lm"

    def check(self, model: GenomicLM) -> None:
        """Whether a model has this output.

        Raises:
            InputError: it has not.
        """
        if "lm" not in model.config.tasks:
            raise InputError(
                "the model does not predict the next letter, and a pseudo-likelihood has no gradient here; take "
                "--method mutagenesis or attention, or --target label where it has prediction heads"
            )

    def __call__(
        self, output: ModelOutput, reading: Reading, ids: Tensor, letters: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """The sum over the counted tokens.

        Args:
            output: of the model.
            reading: the sequence.
            ids: (B, T) what was read, and is predicted.
            letters: x (B, L, 5) and the ids of its columns, where the tokens of the region are such mixtures.

        Returns:
            (B,) float32.
        """
        log_p = output.logits[:, :-1].float().log_softmax(-1)
        found = log_p.gather(-1, ids[:, 1:, None])[..., 0]
        if letters is not None:
            x, letter_ids = letters
            predicted = reading.places > 0  # without a start token nothing predicts the first
            places, of_region = reading.places[predicted] - 1, reading.letters[predicted]
            each = log_p[:, places][..., letter_ids[:4]]
            found = found.index_copy(1, places, (x[:, of_region, :4] * each).sum(-1))
        return (found * reading.counted[1:]).sum(1)


class HeadOutput:
    """Output of a prediction head: the logit of a class or of a yes, or a number; summed over the counted tokens
    where the head predicts per nucleotide.

    Args:
        head: its name.
        column: which of its outputs.
    """

    task = "prediction"

    def __init__(self, head: str, column: int):
        self.head, self.column = head, column

    @classmethod
    def named(cls, model: GenomicLM, head: str | None, wanted: str | None) -> "HeadOutput":
        """The output of a model's head that people name.

        Args:
            model: with prediction heads.
            head: may be left out where there is one.
            wanted: the name of a class, or the number of an output from 0; may be left out where there is one output.

        Raises:
            InputError: the model has no such head or the head no such output.
        """
        heads = model.config.heads
        if not heads:
            raise InputError(
                "the model has no prediction head; --target label needs one, as finetune trains it"
            )
        if head is None and len(heads) == 1:
            head = next(iter(heads))
        if head not in heads:
            said = "--head: name one" if head is None else f"--head: the model has no head {head!r}"
            raise InputError(f"{said} of {', '.join(heads)}")
        about = heads[head]
        names = about.classes or [str(number) for number in range(about.outputs)]
        if wanted is None and len(names) == 1:
            wanted = names[0]
        if wanted in names:
            return cls(head, names.index(wanted))
        if wanted is not None and wanted.isdecimal() and int(wanted) < about.outputs:
            return cls(head, int(wanted))
        said = (
            "--class: name one" if wanted is None else f"--class: the head {head!r} has no class {wanted!r}"
        )
        raise InputError(f"{said} of {', '.join(names)}")

    def check(self, model: GenomicLM) -> None:
        """Nothing: `named` has looked."""

    def __call__(
        self, output: ModelOutput, reading: Reading, ids: Tensor, letters: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """(B,) float32; only `output` and `reading` matter."""
        found = output.predictions[self.head][..., self.column].float()
        return found if found.ndim == 1 else (found * reading.counted).sum(1)


class LetterFunction:
    """f(x): the signed sum of what the model gives for one or several readings of one region.

    Args:
        model: in evaluation mode; its weights need no gradient.
        readings: of windows with the region inside.
        output: what of the model's output is meant.
        codes: (L,) int64, the true letters of the region, 0 to 3 for A, C, G and T; -1 at letters that do not vary:
            ambiguous ones, and those that no reading holds.
        held: whether the boundaries stay those of the true sequence.

    Attributes:
        one_hot: (L, 5) float32, the true letters; zero where they do not vary.
        varies: (L,) bool.
    """

    def __init__(
        self,
        model: GenomicLM,
        readings: Sequence[Reading],
        output: "LogLikelihood | HeadOutput",
        codes: Tensor,
        held: bool,
    ):
        output.check(model)
        self.model, self.readings, self.output, self.codes = model, list(readings), output, codes
        self.letter_ids = letter_ids(model.tokenizer).to(model.device)
        self.varies = codes >= 0
        self.one_hot = one_hot(codes, len(COLUMNS))
        if held and model.config.chunkers:
            for reading in self.readings:
                reading.boundaries = self._run(reading, reading.ids[None]).packed_boundaries

    def __call__(self, x: Tensor) -> Tensor:
        """(B, L, 5) to (B,) float32, with gradient."""
        total = x.new_zeros(len(x))
        for reading in self.readings:
            ids = reading.ids.expand(len(x), -1)
            embedded = self.model.embedding.weight[ids]
            mixed = x[:, reading.letters] @ self.model.embedding.weight[self.letter_ids]
            embedded = embedded.index_copy(1, reading.places, mixed.to(embedded.dtype))
            with held_boundaries(self.model, reading.boundaries), embedded_as(self.model, embedded):
                output = self.model(ids, task=self.output.task)
            total = total + reading.sign * self.output(output, reading, ids, (x, self.letter_ids))
        return total

    @torch.no_grad()
    def of_letters(self, codes: Tensor) -> Tensor:
        """The output for other letters, (B, L) with 0 to 3 for A, C, G and T, (B,) float32.

        The model reads their tokens, so that boundaries, entropies and labels are those of these letters.
        """
        total = torch.zeros(len(codes), device=codes.device)
        for reading in self.readings:
            ids = reading.with_letters(codes, self.letter_ids)
            total += reading.sign * self.output(self._run(reading, ids), reading, ids)
        return total

    @torch.no_grad()
    def _run(self, reading: Reading, ids: Tensor) -> ModelOutput:
        return self.model(ids, task=self.output.task)


def one_hot(codes: Tensor, columns: int = 4) -> Tensor:
    """(L, columns) float32 of (L,) codes; zero where a code is negative."""
    return (codes[:, None] == torch.arange(columns, device=codes.device)).float()


def letter_ids(tokenizer: Tokenizer) -> Tensor:
    """(5,) int64, the ids of A, C, G, T and N.

    Raises:
        InputError: the tokenizer's tokens are not single nucleotides.
    """
    if not isinstance(tokenizer, LetterTokenizer) or not tokenizer.has_strands:
        raise InputError(
            f"the tokenizer {tokenizer.name!r} has no token for each nucleotide, so that letters have no gradient; "
            "take --method mutagenesis or attention"
        )
    return torch.from_numpy(tokenizer.encode_letters(COLUMNS.encode()).astype(np.int64))


@contextmanager
def embedded_as(model: GenomicLM, embedded: Tensor) -> Iterator[None]:
    """Let the model read (B, T, D) embeddings in the place of those of its ids."""
    rows = embedded.flatten(0, 1)
    handle = model.embedding.register_forward_hook(lambda *_: rows)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def held_boundaries(model: GenomicLM, boundaries: Sequence[Boundaries] | None) -> Iterator[None]:
    """Let chunks begin where they do in one sequence, in each of the sequences of a batch; None changes nothing."""
    with ExitStack() as stack:
        for chunker, held in zip(_chunkers(model.backbone), boundaries or (), strict=False):
            handle = chunker.register_forward_hook(_held(held))
            stack.callback(handle.remove)
        yield


def _held(held: Boundaries):
    def hook(chunker: nn.Module, inputs: tuple, found: Boundaries) -> Boundaries:
        copies = found.ragged.batch
        return Boundaries(held.prob.repeat(copies), held.mask.repeat(copies), found.ragged, learned=False)

    return hook


def _chunkers(stage: Stage) -> Iterator[nn.Module]:
    while stage.inner is not None:
        yield stage.chunker
        stage = stage.inner
