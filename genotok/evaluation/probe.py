"""`genotok probe`: how well labels can be read off a frozen model, beside what can be known without it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genotok.atomic import sha256_of
from genotok.errors import InputError
from genotok.evaluation.duplicates import describe_duplicates, duplicate_groups
from genotok.evaluation.embeddings import Embedder
from genotok.evaluation.kmer_counts import LONGEST_WORD, kmer_frequencies, longest_word
from genotok.evaluation.labelled_rows import LabelledRows, read_labelled_rows
from genotok.evaluation.linear_probe import Features, fit_and_predict, majority
from genotok.evaluation.resampling import compare_methods
from genotok.evaluation.splits import folds, hold_out
from genotok.genomes.alphabets import DNA, Alphabet
from genotok.models import GenomicLM
from genotok.models.random_weights import random_model
from genotok.progress import progress
from genotok.training.precision import choose_device

MOST_DENSE_WORDS = 256


@dataclass
class ProbeSettings:
    """How a probe is made.

    Attributes:
        folds: of a cross-validation where there is neither a test table nor `test_fraction`.
        test_fraction: share of the rows that is held out once in place of folds; 0 for folds.
        repeats: how often folds are drawn and probes fitted, with seeds from `seed` on.
        seed: of folds, random weights and the bootstrap.
        kmers: lengths of words that the baseline chooses from.
        kmers_both_strands: whether it counts a word and its reverse complement as one.
        random_weights: whether a model of the same shape with random weights is probed as well.
        draws: bootstrap samples.
    """

    folds: int = 5
    test_fraction: float = 0.0
    repeats: int = 1
    seed: int = 0
    kmers: Sequence[int] = (1, 2, 3, 4, 5, 6)
    kmers_both_strands: bool = False
    random_weights: bool = True
    draws: int = 1000

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise InputError(f"--folds: {self.folds} should be at least 2")
        if not 0 <= self.test_fraction <= 0.5:
            raise InputError(f"--test-fraction: {self.test_fraction} should be from 0 to 0.5")
        if self.repeats < 1 or self.draws < 1:
            raise InputError("--repeats and --draws: should be at least 1")
        for k in self.kmers:
            if not 1 <= k <= LONGEST_WORD:
                raise InputError(f"--kmers: {k} should be from 1 to {LONGEST_WORD}")


@dataclass
class LabelledSplits:
    """Rows, and how they are split.

    Attributes:
        rows: of the table, and behind them those of the test table where there is one.
        groups: (R,) equal numbers for copies and opposite strands.
        splits: of each repetition, (train, test) indices a fold.
        shared: (R,) bool, rows of a test table whose sequence stands in the training table.
        about: what a result says about all this, as JSON values.
    """

    rows: LabelledRows
    groups: np.ndarray
    splits: list[list[tuple[np.ndarray, np.ndarray]]]
    shared: np.ndarray
    about: dict[str, Any]

    def tested(self) -> np.ndarray:
        """Indices of the rows that are predicted."""
        return np.sort(np.concatenate([test for _, test in self.splits[0]]))


def probe(
    model_folder: str | Path,
    table: Path,
    columns: Sequence[str],
    test: Path | None = None,
    sequence: str = "sequence",
    kind: str = "auto",
    settings: ProbeSettings | None = None,
    device: str = "auto",
    threads: int = 2,
    **embedding: Any,
) -> dict[str, Any]:
    """Fit linear models on frozen embeddings and on the frequencies of words, and predict what they did not see.

    Args:
        model_folder: of the model.
        table: FASTA or a table, see `genotok.evaluation.labelled_rows`.
        columns: of the labels.
        test: a table with the rows to predict; None splits `table`.
        sequence: the column with the sequences.
        kind: of the labels, or `auto`.
        settings: see `ProbeSettings`.
        device, threads: as everywhere.
        embedding: settings of `genotok.evaluation.embeddings.Embedder`.

    Returns:
        JSON values: what was split how, `duplicates`, and `results`, the comparison of `compare_methods` by part of
        the test: `all`, and `not_in_train` where a test table shares sequences with the training table.

    Raises:
        InputError: a file, a column or a label does not fit.
    """
    torch.set_num_threads(threads)
    settings = settings or ProbeSettings()
    if embedding.get("pool") == "nucleotide":
        raise InputError("--pool: a probe needs one state a sequence, of 'mean' or 'last'")
    model = GenomicLM.from_pretrained(model_folder, choose_device(device))
    embedder = Embedder(model, **embedding)
    if settings.kmers_both_strands and not embedder.alphabet.has_strands:
        raise InputError("--kmers-both-strands: the model reads proteins, which have no opposite strand")
    longest, max_length = longest_word(embedder.alphabet), embedding.get("max_length")
    if settings.kmers and min(settings.kmers) > longest:
        raise InputError(f"--kmers: words of amino acids should have from 1 to {longest} letters")
    settings = replace(settings, kmers=[k for k in settings.kmers if k <= longest])
    data = read_data(table, columns, test, sequence, kind, max_length, settings, embedder.alphabet)
    fitted = _Methods(data, settings)
    fitted.fit("probe", {"embeddings": _embed(embedder, data.rows, "embed")})
    if settings.random_weights:
        control = Embedder(random_model(model.config, settings.seed).to(model.device), **embedding)
        fitted.fit("random_weights", {"embeddings": _embed(control, data.rows, "embed, random weights")})
    if settings.kmers:
        fitted.fit("kmers", _words(data.rows, settings))
    fitted.add_majority()
    return {
        "task": "probe",
        **data.about,
        "embedding": embedder.describe() | {"parameters": sum(p.numel() for p in model.parameters())},
        "settings": {
            "seed": settings.seed,
            "kmers": list(settings.kmers),
            "kmers_both_strands": settings.kmers_both_strands,
            "bootstrap_draws": settings.draws,
        },
        "results": fitted.results(),
    }


def _words(rows: LabelledRows, settings: ProbeSettings) -> dict[str, Features]:
    """Shares of words by their length, dense where they are few: only these can be centred."""
    found = {}
    for k in settings.kmers:
        shares = kmer_frequencies(rows.sequences, k, settings.kmers_both_strands, rows.alphabet)
        found[f"{k}-mers"] = shares.toarray() if shares.shape[1] <= MOST_DENSE_WORDS else shares
    return found


def _embed(embedder: Embedder, rows: LabelledRows, what: str) -> np.ndarray:
    with progress(
        what, sum(len(letters[: embedder.max_length]) for letters in rows.sequences), "bases"
    ) as bar:
        return embedder.embed(rows.sequences, bar.advance)


def read_data(
    table: Path,
    columns: Sequence[str],
    test: Path | None,
    sequence: str,
    kind: str,
    max_length: int | None,
    settings: ProbeSettings,
    alphabet: Alphabet = DNA,
) -> LabelledSplits:
    """The rows of one or two tables, and how they are split; see `probe`."""
    how = (columns, sequence, kind, max_length)
    rows = read_labelled_rows(table, *how, alphabet=alphabet)
    held = None if test is None else read_labelled_rows(test, *how, rows.head, alphabet)
    known = rows.sequences if held is not None else []
    parts = {"table": rows} if held is None else {"table": rows, "test": held}
    every = rows if held is None else joined(rows, held)
    groups, _ = duplicate_groups(every.sequences, (), alphabet)
    shared = np.zeros(len(every), bool)
    if held is not None:
        shared[len(rows) :] = duplicate_groups(held.sequences, known, alphabet)[1]
    splits, how = _splits(every, groups, len(rows) if held is not None else None, settings)
    files = {"table": table} if held is None else {"table": table, "test": test}
    counts = {name: _duplicates(part) for name, part in parts.items()}
    about = {
        "label": list(columns),
        "kind": rows.head.kind,
        "classes": rows.head.classes or (rows.head.outputs if rows.head.kind == "classification" else None),
        "files": {name: {"name": Path(path).name, "sha256": sha256_of(path)} for name, path in files.items()},
        "unlabelled": {name: part.unlabelled for name, part in parts.items()},
        "duplicates": counts | ({} if held is None else {"test_in_train": int(shared.sum())}),
        "statement": " ".join(_statements(counts, None if held is None else int(shared.sum()), alphabet)),
        "split": how,
    }
    return LabelledSplits(every, groups, splits, shared, about)


def joined(one: LabelledRows, other: LabelledRows) -> LabelledRows:
    """The rows of two tables, one behind the other."""
    labels = np.concatenate([one.labels, other.labels])
    return replace(one, sequences=one.sequences + other.sequences, labels=labels, unlabelled=0)


def _duplicates(rows: LabelledRows) -> dict[str, Any]:
    groups = duplicate_groups(rows.sequences, (), rows.alphabet)[0]
    return describe_duplicates(rows.sequences, groups, rows.labels, rows.alphabet)


def _statements(counts: dict[str, dict[str, Any]], shared: int | None, alphabet: Alphabet) -> list[str]:
    """What a person should know of copies, in sentences."""
    strands = alphabet.has_strands
    said = [
        f"Of the {found['rows']:,} rows of the {'table' if name == 'table' else 'test table'} {found['copies']:,} "
        + (
            f"repeat a sequence, {found['reverse_complements']:,} the opposite strand of one, and "
            if strands
            else "repeat a sequence, and "
        )
        + f"{found['contradictory']:,} have a copy with another label."
        for name, found in counts.items()
    ]
    if shared is None:
        kept = "Copies and opposite strands" if strands else "Copies"
        return [*said, f"{kept} are kept on one side of every split."]
    where = ", on either strand" if strands else ""
    return [*said, f"{shared:,} rows of the test table stand in the training table as well{where}."]


def _splits(
    rows: LabelledRows, groups: np.ndarray, train_rows: int | None, settings: ProbeSettings
) -> tuple[list[list[tuple[np.ndarray, np.ndarray]]], dict[str, Any]]:
    seeds = [settings.seed + k for k in range(settings.repeats)]
    if train_rows is not None:
        given = (np.arange(train_rows), np.arange(train_rows, len(rows)))
        return [[given]], {"by": "test table"}
    if settings.test_fraction:
        held = hold_out(rows, groups, settings.test_fraction, settings.seed)
        return [[held]], {"by": "hold-out", "fraction": settings.test_fraction, "seed": settings.seed}
    splits = [folds(rows, groups, settings.folds, seed) for seed in seeds]
    return splits, {"by": "folds", "folds": settings.folds, "seeds": seeds}


class _Methods:
    """The predictions of each method for the rows that are tested, one repetition after the other."""

    def __init__(self, data: LabelledSplits, settings: ProbeSettings):
        self.data, self.settings = data, settings
        self.predictions: dict[str, list[np.ndarray]] = {}
        self.chosen: dict[str, list[dict[str, Any]]] = {}

    def fit(self, name: str, features: dict[str, Features]) -> None:
        """Fit and predict in every fold."""
        rows, groups = self.data.rows, self.data.groups
        self.chosen[name] = []

        def predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
            fitted = fit_and_predict(features, rows, groups, train, test, self.settings.seed)
            self.chosen[name].append(fitted.chosen)
            return fitted.predictions

        self._each_fold(name, predict)

    def add_majority(self) -> None:
        """The baseline that looks at no sequence."""
        self._each_fold("majority", lambda train, test: majority(self.data.rows, train, test))

    def _each_fold(self, name: str, predict: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        tested, self.predictions[name] = self.data.tested(), []
        place = np.full(len(self.data.rows), -1)
        place[tested] = np.arange(len(tested))
        with progress(f"fit {name}", sum(map(len, self.data.splits)), "folds") as bar:
            for repetition in self.data.splits:
                found = np.zeros((len(tested), self.data.rows.head.outputs))
                for train, test in repetition:
                    found[place[test]] = predict(train, test)
                    bar.advance()
                self.predictions[name].append(found)

    def results(self) -> dict[str, Any]:
        """The comparison, for all tested rows and for those whose sequence was not seen."""
        found = compare_on_parts(self.predictions, self.data, self.settings.draws, self.settings.seed)
        for compared in found.values():
            for name, chosen in self.chosen.items():
                compared["methods"][name]["chosen"] = chosen
        return found


def compare_on_parts(
    predictions: dict[str, list[np.ndarray]], data: LabelledSplits, draws: int, seed: int
) -> dict[str, Any]:
    """The comparison of methods by part of the test: `all`, and `not_in_train` where a sequence was seen.

    Args:
        predictions: by method, for the rows of `data.tested()`.
        data: the rows and which of them are tested.
        draws: bootstrap samples.
        seed: of these.
    """
    tested, found = data.tested(), {}
    parts = {"all": np.ones(len(tested), bool)}
    if data.shared.any():
        parts["not_in_train"] = ~data.shared[tested]
    for part, mask in parts.items():
        if not mask.any():
            continue
        chosen = {name: [values[mask] for values in repeats] for name, repeats in predictions.items()}
        rows = tested[mask]
        found[part] = compare_methods(
            chosen, data.rows.labels[rows], data.groups[rows], data.rows.head, draws, seed
        )
    return found
