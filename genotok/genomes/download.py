"""Downloads that survive bad networks: timeouts, retries with backoff, resume by byte range, checksums."""

import contextlib
import email.utils
import fcntl
import ftplib
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from genotok import __version__
from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.progress import progress

log = logging.getLogger(__name__)

BLOCK = 1 << 18
LONGEST_WAIT = 60.0
_DIGEST_DIGITS = {"sha256": 64, "md5": 32}


class AddressNotFound(InputError):
    """The server says that there is nothing at this address."""


class _Transient(Exception):
    """A failure that may pass; `wait` is how long the server asked to wait, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


def download(
    url: str | Path,
    target: str | Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    timeout: float = 30.0,
    retries: int = 5,
    backoff: float = 1.0,
    longest_wait: float = LONGEST_WAIT,
) -> Path:
    """Download an address, or copy a local file, to `target`, which appears when it is whole and verified.

    Statuses 408, 429 and 5xx, connection errors, stalls and bodies that are shorter than announced are tried
    again after `backoff`, 2 `backoff`, 4 `backoff` ... seconds, or after the server's `Retry-After` if that
    is longer. What has been received waits in `<target>.part`, with the server's validator in
    `<target>.part.json`; the next attempt, or the next call, asks for the rest (RFC 9110: `Range` with
    `If-Range`) and starts anew when the server answers with the whole, refuses the range, or the file has
    changed. A server that gives no strong `ETag` and no `Last-Modified` is asked for the whole each time, as
    is an ftp server. A wrong checksum causes one more download from the beginning.

    Args:
        url: an http, https, ftp or file address, or a path.
        target: the file to write.
        sha256: expected SHA-256 in hexadecimal.
        md5: expected MD5 in hexadecimal.
        timeout: seconds without a connection or a byte after which an attempt counts as failed.
        retries: attempts after the first.
        backoff: seconds before the second attempt.
        longest_wait: upper limit of any wait, in seconds.

    Returns:
        `target`.

    Raises:
        AddressNotFound: 404, 410, or ftp's 550.
        InputError: any other refusal, attempts used up, a wrong checksum, or `target` cannot be written.
    """
    target = Path(target)
    local = local_path(url)
    if local is not None:
        return _copy(local, target, sha256, md5)
    url = str(url)
    if urlsplit(url).scheme not in ("http", "https", "ftp"):
        raise InputError(f"{url}: only http, https, ftp and file addresses can be downloaded")
    if target.is_dir():
        raise InputError(f"{target}: is a directory; name the file to write")
    _checked_digests(sha256, md5)
    with _Part(target, url) as part:
        for last in (False, True):
            _receive(url, part, timeout, retries, backoff, longest_wait)
            complaint = checksum_complaint(part.path, sha256, md5)
            if complaint is None:
                part.finish()
                return target
            part.restart({})
            if not last:
                log.warning("%s: %s; downloading once more from the beginning", url, complaint)
        raise InputError(f"{url}: {complaint}; check the address and the expected checksum")


def local_path(url: str | Path) -> Path | None:
    """The path that a plain path or a `file://` address means; None for an address on a network."""
    text = str(url)
    if "://" not in text:
        return Path(text)
    parts = urlsplit(text)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def checksum_complaint(path: Path, sha256: str | None = None, md5: str | None = None) -> str | None:
    """What is wrong with a file's checksums, naming the expected and the actual digest, or None.

    Raises:
        InputError: an expected digest is malformed.
    """
    for algorithm, expected in _checked_digests(sha256, md5).items():
        with open(path, "rb") as handle:
            actual = hashlib.file_digest(handle, algorithm).hexdigest()
        if actual != expected:
            return f"the {algorithm} is {actual}, not {expected} as expected"
    return None


def _checked_digests(sha256: str | None, md5: str | None) -> dict[str, str]:
    """The expected digests in lower case."""
    given = {"sha256": sha256, "md5": md5}
    digests = {name: digest.strip().lower() for name, digest in given.items() if digest is not None}
    for name, digest in digests.items():
        if not re.fullmatch(rf"[0-9a-f]{{{_DIGEST_DIGITS[name]}}}", digest):
            raise InputError(f"{digest!r} is no {name}: give {_DIGEST_DIGITS[name]} hexadecimal digits")
    return digests


def _copy(source: Path, target: Path, sha256: str | None, md5: str | None) -> Path:
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
        if complaint := checksum_complaint(temporary, sha256, md5):
            raise InputError(f"{source}: {complaint}")
    return target


class _Part:
    """The bytes received so far, held by one process, and what the server said about the whole.

    Notes (JSON): `url`, `validator` (strong ETag or Last-Modified date), `length` (of the whole, or null).
    """

    def __init__(self, target: Path, url: str):
        self.target, self.url = target, url
        self.path = target.with_name(target.name + ".part")
        self.notes_path = target.with_name(target.name + ".part.json")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self.handle = open(self.path, "ab")  # noqa: SIM115 (closed by __exit__)
        except OSError as error:
            raise InputError(f"{target}: cannot be written: {error.strerror}") from error
        self._lock()
        self.notes = self._read_notes()
        if self.notes.get("url") != url:
            self.restart({})

    def _lock(self) -> None:
        """Make sure that no other process appends to the same part."""
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(self.handle.fileno()), os.stat(self.path))
        except (BlockingIOError, FileNotFoundError):
            mine = False
        except OSError:
            mine = True  # a file system without locks
        if not mine:
            self.handle.close()
            raise InputError(f"{self.target}: another process is downloading it; wait for that one")

    def _read_notes(self) -> dict:
        try:
            notes = json.loads(self.notes_path.read_text())
        except (OSError, ValueError):
            return {}
        return notes if isinstance(notes, dict) else {}

    @property
    def size(self) -> int:
        return os.fstat(self.handle.fileno()).st_size

    @property
    def resumable(self) -> bool:
        """Whether there are bytes, and a validator to prove that others belong to them."""
        return self.size > 0 and bool(self.notes.get("validator"))

    def restart(self, notes: dict) -> None:
        """Forget all bytes; `notes` describe the file that will be received now."""
        self.notes = {"url": self.url, **notes}
        try:
            self.handle.truncate(0)
            self.notes_path.write_text(json.dumps(self.notes, sort_keys=True))
        except OSError as error:
            raise InputError(f"{self.notes_path}: cannot be written: {error.strerror}") from error

    def write(self, block: bytes) -> None:
        try:
            self.handle.write(block)
            self.handle.flush()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror}") from error

    def finish(self) -> None:
        """Give the part its final name."""
        os.fsync(self.handle.fileno())
        os.replace(self.path, self.target)
        self.notes_path.unlink(missing_ok=True)

    def __enter__(self) -> "_Part":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Keep a part that the next call can go on from; remove any other."""
        if kind is not None and not self.resumable:
            self.path.unlink(missing_ok=True)
            self.notes_path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # on a full disk; `finish` has flushed what counts
            self.handle.close()


def _receive(
    url: str, part: _Part, timeout: float, retries: int, backoff: float, longest_wait: float
) -> None:
    """Attempt until the part is whole."""
    for attempt in range(retries + 1):
        try:
            return _attempt(url, part, timeout)
        except _Transient as failure:
            reason, asked = str(failure), failure.wait
        if attempt < retries:
            wait = min(longest_wait, max(backoff * 2**attempt, asked))
            log.warning("%s: %s; retry %d of %d in %.3g s", url, reason, attempt + 1, retries, wait)
            time.sleep(wait)
    kept = f"; the next call goes on from {part.path}" if part.resumable else ""
    raise InputError(f"{url}: {reason}; gave up after {retries + 1} attempts{kept}")


def _attempt(url: str, part: _Part, timeout: float) -> None:
    """Ask for the rest where the part may be continued, else, or if that is not to be had, for the whole."""
    if part.resumable and _request(url, part, timeout):
        return
    part.restart({})
    if not _request(url, part, timeout):
        raise _Transient("the server sends a part of the file where the whole was asked for")


def _request(url: str, part: _Part, timeout: float) -> bool:
    """One request; False when the server's answer does not continue the part."""
    offset = part.size
    headers = {"User-Agent": f"genotok/{__version__}"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": part.notes["validator"]}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout
        ) as response:
            if response.status == 206 and not _continues(response, part):
                return False
            if response.status != 206:
                part.restart(_notes(response))
            _append_body(response, part)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and offset:
                return False
            raise _refusal(url, error, part) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _network_failure(url, error, timeout) from error
    return True


def _notes(response) -> dict:
    """What is worth knowing about the whole file when its transfer begins."""
    length = response.headers.get("Content-Length", "")
    known = length.isdigit() and "Transfer-Encoding" not in response.headers
    return {"validator": strong_validator(response.headers), "length": int(length) if known else None}


def strong_validator(headers: Mapping[str, str]) -> str | None:
    """A strong ETag, or else a Last-Modified date that is safely past (RFC 9110, section 8.8.2.2)."""
    etag, modified = headers.get("ETag"), headers.get("Last-Modified")
    if etag and etag.startswith('"'):
        return etag
    try:
        date = email.utils.parsedate_to_datetime(headers.get("Date"))
        age = date - email.utils.parsedate_to_datetime(modified)
    except (TypeError, ValueError):
        return None
    return modified if age.total_seconds() >= 1 else None


def content_range(headers: Mapping[str, str]) -> tuple[int, int | None] | None:
    """The first byte that a 206 answer brings, and the length of the whole where it says it."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    return found and (int(found[1]), None if found[2] == "*" else int(found[2]))


def _continues(response, part: _Part) -> bool:
    """Whether a 206 answer begins where the part ends and belongs to the same version of the file."""
    found = content_range(response.headers)
    if part.size == 0 or found is None or found[0] != part.size:
        return False
    known, total = part.notes.get("length"), found[1]
    if known is not None and total is not None and known != total:
        return False
    part.notes["length"] = total if known is None else known
    return strong_validator(response.headers) in (None, part.notes["validator"])


def _append_body(response, part: _Part) -> None:
    """Write what comes, up to the announced length; complain when less comes."""
    length, size = part.notes["length"], part.size
    with progress(f"download from {urlsplit(part.url).hostname}", length, "bytes") as bar:
        bar.resume_at(size)
        while length is None or size < length:
            block = response.read1(BLOCK if length is None else min(BLOCK, length - size))
            if not block:
                break
            part.write(block)
            size += len(block)
            bar.advance(len(block))
    if length is not None and size < length:
        raise _Transient(f"the connection ended after {size} of {length} bytes")


def _refusal(url: str, error: urllib.error.HTTPError, part: _Part) -> Exception:
    """What an error status means: try again, or say why not."""
    said = f"{error.code} {error.reason}".strip()
    if error.code in (408, 429) or error.code >= 500:
        return _Transient(f"the server answered {said}", _retry_after(error.headers.get("Retry-After")))
    if error.code in (404, 410):
        part.restart({})
        return AddressNotFound(f"{url}: the server has nothing there ({said}); check the name or the address")
    return InputError(f"{url}: the server refuses ({said}); check the address and whether it is open to you")


def _retry_after(value: str | None) -> float:
    """Seconds to wait by a Retry-After header: a number of seconds or a date (RFC 9110, section 10.2.3)."""
    if value is None:
        return 0.0
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _network_failure(url: str, error: Exception, timeout: float) -> Exception:
    """What an exception below HTTP means: try again, or say why not."""
    cause: object = error
    while isinstance(cause, urllib.error.URLError):
        cause = cause.reason
    if isinstance(cause, ssl.SSLCertVerificationError):
        return InputError(f"{url}: the server's certificate is not trusted ({cause.verify_message})")
    if isinstance(cause, TimeoutError):
        return _Transient(f"nothing received for {timeout:g} s")
    if isinstance(cause, ftplib.error_perm) or "error_perm" in str(cause):
        kind = AddressNotFound if "550" in str(cause) else InputError
        return kind(f"{url}: the server refuses ({cause}); check the name or the address")
    if isinstance(cause, http.client.InvalidURL) or not isinstance(
        cause, (OSError, http.client.HTTPException, str)
    ):
        return InputError(f"{url}: is no valid address ({cause})")
    return _Transient(f"the connection failed ({cause or type(cause).__name__})")
