"""Models on the Hugging Face Hub."""

import re
from collections.abc import Sequence
from pathlib import Path

from genotok.errors import InputError

_NAME = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(.+))?")


def hub_name(source: str | Path) -> tuple[str, str | None] | None:
    """The repository and the revision that `owner/name` or `owner/name@revision` means; None for a path.

    What exists here is a path, and so is what lies in a folder that exists here: a mistyped `results/modle` is no
    reason to ask a server.
    """
    path = Path(source)
    named = _NAME.fullmatch(str(source))
    if named is None or path.exists() or path.parts[0] in (".", "..") or Path(path.parts[0]).exists():
        return None
    return named[1], named[2]


def download_model(repository: str, revision: str | None, names: Sequence[str]) -> Path:
    """The folder in the Hub's cache with the files of a model, downloaded where they are not there yet.

    HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE mean what they mean to `huggingface_hub`. All files are of one
    commit, also when the repository changes between two downloads.

    Args:
        repository: `owner/name`.
        revision: branch, tag or commit; None for `main`.
        names: files that a model consists of.

    Raises:
        InputError: there is no such repository, revision or file, access is refused, or the server cannot be reached.
    """
    for name in names:
        folder = _download(repository, revision, name).parent
        revision = folder.name  # the commit that the first file is of
    return folder


def _download(repository: str, revision: str | None, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name, revision=revision))
    # The libraries below have no common base class for their errors, and change them between versions.
    except Exception as error:
        at = f"@{revision}" if revision else ""
        raise InputError(f"{repository}{at}: {_complaint(error, name)}") from error


def _complaint(error: Exception, name: str) -> str:
    from huggingface_hub import constants, errors

    where = constants.ENDPOINT
    known = [
        (
            errors.GatedRepoError,
            f"is gated; ask for access at {where}, and set HF_TOKEN to a token that has it",
        ),
        (errors.RevisionNotFoundError, "there is no such revision; give a branch, a tag or a commit"),
        (
            errors.RepositoryNotFoundError,
            f"is no folder here, and no model that {where} shows; check the name, and HF_TOKEN if it is private",
        ),
        (
            errors.LocalEntryNotFoundError,
            f"{name} is not in the cache, and {where} did not give it ({_reason(error)}); check the network, "
            "HF_ENDPOINT and HF_HUB_OFFLINE",
        ),
        (errors.EntryNotFoundError, f"no {name} in this repository, so it holds no genotok model"),
        (errors.HFValidationError, "is neither a folder here nor a name on the Hugging Face Hub"),
    ]
    for kind, sentence in known:
        if isinstance(error, kind):
            return sentence
    return f"{name} could not be fetched from {where} ({_reason(error)}); check the network and try again"


def _reason(error: Exception) -> str:
    """What happened, in one line: the cause where the library has wrapped it."""
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:160]}"
