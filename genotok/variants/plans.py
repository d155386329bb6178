"""What a model is to run for a block of variants, as arrays of ids: made by workers, without a model.

Every window is encoded once, equal ones are found, and the rows are put in the order in which they make batches of
like length. Ids stay as narrow as the tokenizer gives them, a byte each for nucleotides; they become int64 on the
model's device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from genotok.tokenizers import LetterTokenizer, Tokenizer, load_tokenizer
from genotok.variants.snv_windows import SnvWindows
from genotok.variants.windows import WindowPair


class IdRows(NamedTuple):
    """Sequences of ids.

    Attributes:
        ids: (rows, longest) unsigned, padded with the tokenizer's pad id.
        lengths: (rows,) int64.
    """

    ids: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class PairPlan:
    """Whole windows.

    Attributes:
        windows: each once, the longest first, behind the start token where the tokenizer has one.
        pairs: (pairs, 2) int64: the rows of REF and of ALT.
    """

    windows: IdRows
    pairs: np.ndarray

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.pairs)


@dataclass(frozen=True)
class PrefixPlan:
    """What is in front of variants, and what follows there.

    Attributes:
        prefixes: each once, the longest first, behind the start token where the tokenizer has one.
        endings: each once, those of the first prefix first.
        first: (prefixes + 1,) int64: where the endings of each prefix begin.
        pairs: (pairs, 2) int64: the endings of REF and of ALT; (-1, place) of a pair among the whole ones.
        whole: pairs that nothing stands in front of.
    """

    prefixes: IdRows
    endings: IdRows
    first: np.ndarray
    pairs: np.ndarray
    whole: PairPlan

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.pairs)


@dataclass(frozen=True)
class MaskedPlan:
    """Windows for a model of masked tokens.

    Attributes:
        sites: windows with tokens masked, each once, the longest first.
        changes: (changes, 5) int64, by ascending row: row of the site, pair, place, REF id, ALT id.
        whole: windows of which each token is to be masked in its turn, each once, the longest first.
        windows: (n, 3) int64: pair, and the rows of REF and of ALT among the whole windows.
        pairs: how many.
    """

    sites: IdRows
    changes: np.ndarray
    whole: IdRows
    windows: np.ndarray
    pairs: int

    def __len__(self) -> int:
        """How many pairs."""
        return self.pairs


@dataclass(frozen=True)
class FieldPlan:
    """Whole windows for optional fields.

    Attributes:
        windows: of all pairs.
        letters: (pairs, 5) int64: letters in front of the variant, and of REF and of ALT where what lies behind it
            begins, then their lengths.
        likelihood: for what finds the ratios; None where the run for the fields does.
    """

    windows: PairPlan
    letters: np.ndarray
    likelihood: MaskedPlan | None

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.windows)


Plan = PairPlan | PrefixPlan | MaskedPlan | FieldPlan


class Planner(Protocol):
    """Collects pairs of windows for a plan."""

    def add_snvs(self, snvs: SnvWindows) -> None:
        """Add the pairs of all alleles of these variants, strand by strand, to a planner that has none yet."""

    def add(self, pair: WindowPair) -> int:
        """Add a pair; returns its place among all."""

    def plan(self) -> Plan:
        """The plan of all pairs."""


class PlanTask(NamedTuple):
    """Which plans a model wants.

    Attributes:
        tokenizer: what `load_tokenizer` makes the model's of.
        kind: `whole`, `prefixes`, `marginal` or `pseudo`.
        fields: whether optional fields are to be found as well.
    """

    tokenizer: str | dict[str, Any]
    kind: str
    fields: bool = False

    def planner(self) -> Planner:
        """An empty planner."""
        tokenizer = load_tokenizer(self.tokenizer)
        if self.kind == "prefixes":
            return PrefixPlanner(tokenizer)
        masked = None if self.kind == "whole" else MaskedPlanner(tokenizer, self.kind)
        return FieldPlanner(tokenizer, masked) if self.fields else (masked or PairPlanner(tokenizer))


class DistinctRows:
    """Sequences of ids: those of a block, which are taken to differ, and others one by one, each once."""

    def __init__(self, tokenizer: Tokenizer, start: bool = True):
        self._pad = tokenizer.pad_id
        self._start = [] if tokenizer.start_id is None or not start else [tokenizer.start_id]
        self._dtype = tokenizer.encode_letters(b"A").dtype
        self._blocks: list[np.ndarray] = []
        self._in_blocks = 0
        self._known: dict[tuple[int, bytes], int] = {}
        self._others: list[np.ndarray] = []

    def __len__(self) -> int:
        return self._in_blocks + len(self._others)

    def add_block(self, ids: np.ndarray) -> None:
        """Add (rows, length) ids, in front of all that come one by one."""
        if len(ids):
            self._blocks.append(ids)
            self._in_blocks += len(ids)

    def add(self, ids: np.ndarray, group: int = 0) -> int:
        """Add a sequence, unless it is among the others of its group already; returns its row."""
        row = self._known.setdefault((group, ids.tobytes()), len(self))
        if row == len(self):
            self._others.append(ids)
        return row

    def lengths(self) -> np.ndarray:
        """(rows,) int64, the start token counted."""
        others = np.array([len(ids) for ids in self._others], np.int64)
        in_blocks = [np.full(len(ids), ids.shape[1]) for ids in self._blocks]
        return np.concatenate([*in_blocks, others]) + len(self._start)

    def in_order(self, order: np.ndarray) -> IdRows:
        """All rows, those of `order` one behind the other."""
        lengths = self.lengths()[order]
        place, front = _inverse(order), len(self._start)
        ids = np.full((len(order), lengths.max(initial=0)), self._pad, self._dtype)
        ids[:, :front] = self._start
        row = 0
        for block in self._blocks:
            ids[place[row : row + len(block)], front : front + block.shape[1]] = block
            row += len(block)
        for where, other in zip(place[row:].tolist(), self._others, strict=True):
            ids[where, front : front + len(other)] = other
        return IdRows(ids, lengths)

    def longest_first(self) -> tuple[IdRows, np.ndarray]:
        """All rows, and (rows,) where each has gone."""
        order = np.argsort(-self.lengths(), kind="stable")
        return self.in_order(order), _inverse(order)


class PairPlanner:
    """Plans whole windows."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self._windows = DistinctRows(tokenizer)
        self._of_snvs = np.empty((0, 2), np.int64)
        self._pairs: list[tuple[int, int]] = []

    def add_snvs(self, snvs: SnvWindows) -> None:
        """See `Planner`."""
        if not isinstance(self.tokenizer, LetterTokenizer):
            _add_one_by_one(self, snvs)
            return
        ids = _SnvIds(self.tokenizer, snvs)
        alt = ids.ref[ids.site_of_alt]
        alt[:, snvs.shared] = ids.alt
        self._windows.add_block(ids.ref)
        self._windows.add_block(alt)
        self._of_snvs = np.stack([ids.site, len(ids.ref) + ids.change], 1)

    def add(self, pair: WindowPair) -> int:
        """See `Planner`."""
        encode = self.tokenizer.encode_letters
        self._pairs.append((self._windows.add(encode(pair.ref)), self._windows.add(encode(pair.alt))))
        return len(self._of_snvs) + len(self._pairs) - 1

    def plan(self) -> PairPlan:
        """See `Planner`."""
        windows, place = self._windows.longest_first()
        return PairPlan(windows, place[np.concatenate([self._of_snvs, _table(self._pairs, 2)])])


class PrefixPlanner:
    """Plans what is in front of variants apart from what follows; for tokenizers of one token a letter."""

    def __init__(self, tokenizer: LetterTokenizer):
        self.tokenizer = tokenizer
        self._prefixes, self._endings = DistinctRows(tokenizer), DistinctRows(tokenizer, start=False)
        self._whole = PairPlanner(tokenizer)
        self._prefix_of_snvs = np.empty(0, np.int64)
        self._prefix_of: list[int] = []
        self._of_snvs = np.empty((0, 2), np.int64)
        self._pairs: list[tuple[int, int]] = []

    def add_snvs(self, snvs: SnvWindows) -> None:
        """See `Planner`."""
        ids = _SnvIds(self.tokenizer, snvs)
        behind = ids.ref[:, snvs.shared :]
        alt = behind[ids.site_of_alt]
        alt[:, 0] = ids.alt
        self._prefixes.add_block(ids.ref[:, : snvs.shared])
        self._endings.add_block(behind)
        self._endings.add_block(alt)
        self._prefix_of_snvs = np.concatenate([np.arange(len(behind)), ids.site_of_alt])
        self._of_snvs = np.stack([ids.site, len(behind) + ids.change], 1)

    def add(self, pair: WindowPair) -> int:
        """See `Planner`."""
        if not pair.shared and self.tokenizer.start_id is None:  # there is nothing to go on from
            self._pairs.append((-1, self._whole.add(pair)))
        else:
            prefix = self._prefixes.add(self.tokenizer.encode_letters(pair.ref[: pair.shared]))
            endings = (self._ending(prefix, window[pair.shared :]) for window in (pair.ref, pair.alt))
            self._pairs.append(tuple(endings))
        return len(self._of_snvs) + len(self._pairs) - 1

    def _ending(self, prefix: int, letters: bytes) -> int:
        row = self._endings.add(self.tokenizer.encode_letters(letters), prefix)
        if row == len(self._prefix_of_snvs) + len(self._prefix_of):
            self._prefix_of.append(prefix)
        return row

    def plan(self) -> PrefixPlan:
        """See `Planner`."""
        prefixes, place = self._prefixes.longest_first()
        of_ending = place[np.concatenate([self._prefix_of_snvs, np.array(self._prefix_of, np.int64)])]
        order = np.argsort(of_ending, kind="stable")
        first = np.searchsorted(of_ending[order], np.arange(len(place) + 1))
        pairs = np.concatenate([self._of_snvs, _table(self._pairs, 2)])
        shared = pairs[:, 0] >= 0
        pairs[shared] = _inverse(order)[pairs[shared]]
        return PrefixPlan(prefixes, self._endings.in_order(order), first, pairs, self._whole.plan())


class MaskedPlanner:
    """Plans windows for a model of masked tokens; `way` as in `genotok.variants.masked_pool`."""

    def __init__(self, tokenizer: Tokenizer, way: str):
        self.tokenizer, self.way = tokenizer, way
        self._sites, self._whole = DistinctRows(tokenizer), DistinctRows(tokenizer)
        self._pairs = 0
        self._windows: list[tuple[int, int, int]] = []
        self._changes = [np.empty((0, 5), np.int64)]

    def add_snvs(self, snvs: SnvWindows) -> None:
        """See `Planner`."""
        if self.way == "pseudo" or not isinstance(self.tokenizer, LetterTokenizer):
            _add_one_by_one(self, snvs)
            return
        ids = _SnvIds(self.tokenizer, snvs)
        masked = ids.ref.copy()
        masked[:, snvs.shared] = self.tokenizer.mask_id
        self._sites.add_block(masked)
        self._pairs = len(ids.site)
        place = np.full(self._pairs, snvs.shared + (self.tokenizer.start_id is not None))
        alt = ids.alt[ids.change]
        columns = (ids.site, np.arange(self._pairs), place, ids.ref[ids.site, snvs.shared], alt)
        self._changes.append(np.stack(columns, 1).astype(np.int64))

    def add(self, pair: WindowPair) -> int:
        """See `Planner`."""
        ref, alt = (self.tokenizer.encode_letters(letters) for letters in (pair.ref, pair.alt))
        if self.way == "marginal" and pair.is_substitution:
            self._add_site(ref, alt)
        else:
            self._windows.append((self._pairs, self._whole.add(ref), self._whole.add(alt)))
        self._pairs += 1
        return self._pairs - 1

    def _add_site(self, ref: np.ndarray, alt: np.ndarray) -> None:
        places = np.flatnonzero(ref != alt)
        if not len(places):
            return
        masked = ref.copy()
        masked[places] = self.tokenizer.mask_id
        row = self._sites.add(masked)
        in_front = int(self.tokenizer.start_id is not None)
        columns = (np.full(len(places), row), np.full(len(places), self._pairs), places + in_front)
        self._changes.append(np.stack([*columns, ref[places], alt[places]], 1).astype(np.int64))

    def plan(self) -> MaskedPlan:
        """See `Planner`."""
        sites, place = self._sites.longest_first()
        changes = np.concatenate(self._changes)
        changes[:, 0] = place[changes[:, 0]]
        changes = changes[np.argsort(changes[:, 0], kind="stable")]
        whole, place = self._whole.longest_first()
        windows = _table(self._windows, 3)
        windows[:, 1:] = place[windows[:, 1:]]
        return MaskedPlan(sites, changes, whole, windows, self._pairs)


class FieldPlanner:
    """Plans whole windows, and beside them what finds the ratios where that is something else."""

    def __init__(self, tokenizer: Tokenizer, likelihood: MaskedPlanner | None):
        self._windows, self._likelihood = PairPlanner(tokenizer), likelihood
        self._letters: list[tuple[int, ...]] = []

    def add_snvs(self, snvs: SnvWindows) -> None:
        """See `Planner`."""
        self._windows.add_snvs(snvs)
        if self._likelihood:
            self._likelihood.add_snvs(snvs)
        letters = (snvs.shared, snvs.shared + 1, snvs.shared + 1, snvs.window, snvs.window)
        self._letters = [letters] * (len(snvs.site) * snvs.strands)

    def add(self, pair: WindowPair) -> int:
        """See `Planner`."""
        if self._likelihood:
            self._likelihood.add(pair)
        self._letters.append((pair.shared, *pair.behind, len(pair.ref), len(pair.alt)))
        return self._windows.add(pair)

    def plan(self) -> FieldPlan:
        """See `Planner`."""
        likelihood = self._likelihood.plan() if self._likelihood else None
        return FieldPlan(self._windows.plan(), _table(self._letters, 5), likelihood)


class _SnvIds:
    """The ids of single-nucleotide variants, each site on each strand and each change of it once.

    Attributes:
        ref: (sites x strands, window).
        site: (alleles x strands,) int64: the row of each pair's REF.
        change: (alleles x strands,) int64: which of the changes each pair is.
        site_of_alt: (changes,) int64: the row of its REF.
        alt: (changes,) the new id.
    """

    def __init__(self, tokenizer: LetterTokenizer, snvs: SnvWindows):
        strands = snvs.strands
        self.ref = snvs.cut(tokenizer.table.tobytes()).reshape(-1, snvs.window)
        alt = tokenizer.encode_letters(snvs.alt.tobytes()).astype(np.int64)
        self.site = (snvs.site[:, None] * strands + np.arange(strands)).reshape(-1)
        changes, self.change = np.unique(self.site << 8 | alt, return_inverse=True)
        self.change = self.change.reshape(-1)
        self.site_of_alt, self.alt = changes >> 8, (changes & 255).astype(self.ref.dtype)


def _add_one_by_one(planner: Planner, snvs: SnvWindows) -> None:
    """Add the pairs of variants where tokens are several letters."""
    behind, windows = snvs.shared + 1, snvs.cut()
    for site, alts in zip(snvs.site.tolist(), snvs.alt, strict=True):
        for strand, alt in enumerate(alts):
            ref = windows[site, strand].tobytes()
            changed = ref[: snvs.shared] + alt.tobytes() + ref[behind:]
            planner.add(WindowPair(ref, changed, snvs.shared, (behind, behind)))


def _table(rows: Sequence[tuple[int, ...]], columns: int) -> np.ndarray:
    return np.array(rows, np.int64).reshape(-1, columns)


def _inverse(order: np.ndarray) -> np.ndarray:
    """Where each row goes that `order` takes."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place
