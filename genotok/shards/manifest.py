"""`manifest.json`: what a folder of shards holds."""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.tokenizers import LetterTokenizer, Tokenizer, load_tokenizer
from genotok.tokenizers.base import LETTER_TOKENIZERS

FORMAT = "genotok-shards"
VERSION = 2
MANIFEST_NAME = "manifest.json"
SPLITS = ("train", "valid", "test")
_CHECKSUM = re.compile(rb',\n "checksum": "([0-9a-f]{64})"(?=\n}\n\Z)')
ALL_WINDOWS: dict[str, Any] = {"min_real": 0, "include": [], "exclude": []}


@dataclass
class ShardFile:
    """One Arrow file: path relative to the manifest, split, SHA-256, windows, letters in its windows."""

    path: str
    split: str
    sha256: str
    windows: int
    bases: int


@dataclass
class Contig:
    """One contig: lengths and counts in letters; windows kept, and windows dropped as all ambiguous or as asked."""

    genome: str
    name: str
    split: str
    length: int = 0
    ambiguous: int = 0
    soft_masked: int = 0
    windows: int = 0
    dropped_windows: int = 0


@dataclass
class Collection:
    """The sequences of one split of a source that has so many that they are not listed: reads, rows, proteins.

    Attributes:
        sequences: how many there are; `longest` the letters of the longest.
        length, ambiguous, soft_masked: counts in letters; windows kept, and windows dropped as all ambiguous.
    """

    genome: str
    split: str
    sequences: int = 0
    length: int = 0
    longest: int = 0
    ambiguous: int = 0
    soft_masked: int = 0
    windows: int = 0
    dropped_windows: int = 0


@dataclass
class Manifest:
    """The parameters that made a folder of shards, its contigs and its files.

    Attributes:
        tokenizer: the tokenizer that the shards are meant for, a name or a JSON object. The shards hold one id a
            letter whatever it is: its own ids where it has one a letter, and elsewhere those of `nucleotide`,
            `rna` or `protein`, by the tokenizer's alphabet.
        window, stride: in letters.
        sources: genome name, file name, SHA-256 of the file, `format` and `alphabet` of each; the `columns` that were
            kept of it, and what else was asked for.
        collections: of sources with many short sequences, in the place of contigs.
        entropies: where the shards have a column of entropies, the hash of the `model` that gave them and their
            `dtype`; see `genotok.shards.entropies`.
        boundaries: where the shards have a column of boundaries, the files of intervals that these are from, each
            with its name, SHA-256 and `features`; see `genotok.shards.boundaries`.
        windowing: where windows were left out by more than being all ambiguous, `min_real` and the files (name and
            SHA-256) of `include` and `exclude`; see `genotok.shards.windows`.
        leakage: where that was looked for, how many windows of each split stood in one before it, how that was
            judged, and whether they were dropped; see `genotok.shards.leakage`.
    """

    tokenizer: str | dict[str, Any]
    window: int
    stride: int
    sources: list[dict[str, Any]] = field(default_factory=list)
    contigs: list[Contig] = field(default_factory=list)
    files: list[ShardFile] = field(default_factory=list)
    entropies: dict[str, str] | None = None
    boundaries: list[dict[str, Any]] | None = None
    windowing: dict[str, Any] | None = None
    leakage: dict[str, Any] | None = None
    collections: list[Collection] = field(default_factory=list)

    @property
    def letter_tokenizer(self) -> LetterTokenizer:
        """The tokenizer of the ids that the files hold."""
        tokenizer = load_tokenizer(self.tokenizer)
        if isinstance(tokenizer, LetterTokenizer):
            return tokenizer
        return load_tokenizer(LETTER_TOKENIZERS[tokenizer.alphabets[0].name])

    def check_serves(self, tokenizer: Tokenizer, said: str) -> None:
        """Refuse a model's tokenizer that these shards are not for.

        Shards of `nucleotide` and of `rna` serve every tokenizer of nucleotides with tokens of several letters as
        well, and those of `protein` every such tokenizer of proteins, so that all of them can be compared on the same
        windows; others serve the tokenizer that they were made for.

        Args:
            tokenizer: the model's.
            said: how the sentence begins, up to the tokenizer's name.

        Raises:
            InputError: they are for another tokenizer.
        """
        own = load_tokenizer(self.tokenizer)
        several = not isinstance(tokenizer, LetterTokenizer)
        serving = ("nucleotide", "rna") if tokenizer.has_strands else ("protein",)
        if own.description != tokenizer.description and not (own.name in serving and several):
            other = " with other settings" if own.name == tokenizer.name else ""
            raise InputError(f"{said} {tokenizer.name!r}, and the shards were made with {own.name!r}{other}")

    def counts(self) -> dict[str, dict[str, int]]:
        """Contigs, windows and letters of each split."""
        totals = {}
        for split in SPLITS:
            contigs = [contig for contig in self.contigs if contig.split == split]
            collections = [one for one in self.collections if one.split == split]
            both = [*contigs, *collections]
            files = [file for file in self.files if file.split == split]
            totals[split] = {
                "contigs": len(contigs) + sum(one.sequences for one in collections),
                "windows": sum(file.windows for file in files),
                "letters": sum(one.length for one in both),
                "ambiguous": sum(one.ambiguous for one in both),
                "soft_masked": sum(one.soft_masked for one in both),
            }
        return totals

    def to_json(self) -> str:
        """The manifest as text, the same bytes every time; its last line is a checksum of all others."""
        values = {"format": FORMAT, "version": VERSION, **asdict(self), "counts": self.counts()}
        for key in ("entropies", "boundaries", "windowing", "leakage", "collections"):
            if not getattr(self, key):
                del values[key]
        others = json.dumps(values, indent=1) + "\n"
        values["checksum"] = hashlib.sha256(others.encode()).hexdigest()
        return json.dumps(values, indent=1) + "\n"

    def save(self, folder: Path) -> None:
        """Write `manifest.json` into a folder."""
        with atomic_path(folder / MANIFEST_NAME) as path:
            path.write_text(self.to_json())


def manifest_path(shards: str | Path) -> Path:
    """The manifest of a folder of shards, which may be named itself."""
    path = Path(shards)
    return path / MANIFEST_NAME if path.is_dir() else path


def read_manifest(shards: str | Path) -> tuple[Path, Manifest]:
    """Read the manifest of a folder of shards.

    Args:
        shards: the folder, or the manifest itself.

    Returns:
        The folder and the manifest.

    Raises:
        InputError: there is none, it is damaged, or another version wrote it.
    """
    path = manifest_path(shards)
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{shards}: no shards here: {path}: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a manifest of shards: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise InputError(f"{path}: not a manifest of shards; give a folder that `genotok tokenize` wrote")
    if values.pop("version", None) != VERSION:
        raise InputError(f"{path}: written by another version of genotok; run `genotok tokenize` again")
    try:
        values.pop("counts")
        values.pop("checksum", None)
        values["contigs"] = [Contig(**contig) for contig in values["contigs"]]
        values["collections"] = [Collection(**one) for one in values.get("collections", [])]
        values["files"] = [ShardFile(**file) for file in values["files"]]
        return path.parent, Manifest(**values)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); run `genotok tokenize` again") from error


def is_as_written(path: Path) -> bool:
    """Whether a manifest is what was written, byte for byte; one without a checksum, of before these, passes."""
    content = path.read_bytes()
    found = _CHECKSUM.search(content)
    if found is None:
        return b'"checksum"' not in content
    others = content[: found.start()] + content[found.end() :]
    return hashlib.sha256(others).hexdigest().encode() == found[1]


def merge_manifests(shards: list[Path], target: Path) -> Manifest:
    """Describe several folders of shards as one, without copying them.

    Args:
        shards: the folders, in the order that they shall have.
        target: the folder of the merged manifest; the files are named relative to it.

    Raises:
        InputError: they were made with different parameters, or hold the same genome twice.
    """
    read = [read_manifest(folder) for folder in shards]
    if not read:
        raise InputError("no folders of shards were given to merge")
    first = read[0][1]
    merged = Manifest(first.tokenizer, first.window, first.stride, entropies=first.entropies)
    for folder, manifest in read:
        for key in ("tokenizer", "window", "stride", "entropies"):
            if getattr(manifest, key) != getattr(merged, key):
                mine, theirs = (_shown(getattr(one, key)) for one in (manifest, merged))
                raise InputError(
                    f"{folder}: {key} is {mine} and that of {read[0][0]} is {theirs}; shards of one run must agree"
                )
        merged.windowing = _merged_windowing(folder, manifest, merged, first=folder == read[0][0])
        merged.boundaries = _merged_boundaries(folder, manifest, merged, first=folder == read[0][0])
        known = {source["genome"] for source in merged.sources}
        for source in manifest.sources:
            if source["genome"] in known:
                raise InputError(f"{folder}: the genome {source['genome']!r} is in another folder as well")
        merged.sources += manifest.sources
        merged.contigs += manifest.contigs
        merged.collections += manifest.collections
        for file in manifest.files:
            path = os.path.relpath(folder / file.path, target)
            merged.files.append(ShardFile(path, file.split, file.sha256, file.windows, file.bases))
    target.mkdir(parents=True, exist_ok=True)
    merged.save(target)
    return merged


def _merged_windowing(
    folder: Path, manifest: Manifest, merged: Manifest, first: bool
) -> dict[str, Any] | None:
    """The files of intervals of all folders so far; the share of certain letters is common."""
    own = manifest.windowing or ALL_WINDOWS
    before = own if first else merged.windowing or ALL_WINDOWS
    if own["min_real"] != before["min_real"]:
        raise InputError(
            f"{folder}: min_real is {own['min_real']} and that of the shards before it {before['min_real']}; shards "
            "of one run must agree"
        )
    files = {
        key: [*before[key], *(file for file in own[key] if file not in before[key])]
        for key in ("include", "exclude")
    }
    both = {"min_real": own["min_real"], **files}
    return None if both == ALL_WINDOWS else both


def _merged_boundaries(
    folder: Path, manifest: Manifest, merged: Manifest, first: bool
) -> list[dict[str, Any]] | None:
    """The files of boundaries of all folders so far; each genome may have its own."""
    if not first and (manifest.boundaries is None) != (merged.boundaries is None):
        has, others = ("no", "have") if manifest.boundaries is None else ("a", "have none")
        raise InputError(f"{folder}: has {has} column of boundaries, and the shards before it {others}")
    added = [file for file in manifest.boundaries or [] if file not in (merged.boundaries or [])]
    return None if manifest.boundaries is None else [*(merged.boundaries or []), *added]


def _shown(value: Any) -> str:
    """A value in a sentence; of a tokenizer's description the beginning."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
