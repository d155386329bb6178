"""The bytes of an http address as a stream that goes on where a connection has broken off."""

import logging
import time
from typing import Any

from genotok.genomes.download import content_range, strong_validator

log = logging.getLogger(__name__)

SILENCE = 60.0  # seconds without a byte after which a connection is given up
RETRIES, PAUSE = 5, 1.0  # requests in a row that bring nothing, and seconds before the first of them


class HttpStream:
    """Reads an address once, from its beginning to its end.

    One request brings the whole, as it lies there, since not every server sends parts of a file; it may take as long
    as it takes while bytes come. Where the connection breaks off or falls silent, another asks for the rest (RFC
    9110: `Range` with `If-Range`), if the server has given a strong `ETag` or `Last-Modified` by which the rest is
    known to be of the same file: after 1, 2, 4 ... seconds, up to 5 times without a byte.

    Args:
        address: of http or https.
        label: how messages call it.

    Raises:
        Exception: of fsspec or aiohttp: the address cannot be opened, and in `read`, it cannot be read to its end.
    """

    def __init__(self, address: str, label: str):
        import aiohttp
        from fsspec.core import url_to_fs

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
        client = {"timeout": timeout, "trust_env": True}  # the proxy of HTTPS_PROXY, as everywhere
        self._system, self._path = url_to_fs(address, client_kwargs=client)
        self._label, self._done, self._ended = label, 0, False
        self._file = self._request({})
        self._validator = strong_validator(self._file.r.headers)

    def _request(self, headers: dict[str, str]) -> Any:
        # A size, whichever, spares fsspec a request of its own for it.
        headers = {"Accept-Encoding": "identity", **headers}
        return self._system.open(self._path, "rb", block_size=0, size=1, headers=headers)

    def read(self, size: int) -> bytes:
        """At most so many of the next bytes; none at the end."""
        if self._ended:  # aiohttp does not like to be asked again
            return b""
        try:
            part = self._file.read(size)
        except Exception as error:
            if self._validator is None:
                raise
            part = self._go_on(size, error)
        self._done, self._ended = self._done + len(part), not part
        return part

    def _go_on(self, size: int, broken: Exception) -> bytes:
        """The next bytes by further requests; raises the latest complaint where these bring nothing."""
        for attempt in range(RETRIES):
            self.close()
            wait = PAUSE * 2**attempt
            log.warning(
                "%s: the connection broke off behind byte %d; retry %d of %d in %.3g s",
                *(self._label, self._done, attempt + 1, RETRIES, wait),
            )
            time.sleep(wait)
            try:
                self._file = self._request({"Range": f"bytes={self._done}-", "If-Range": self._validator})
                if not self._continues():
                    raise broken
                return self._file.read(size)
            except Exception as error:
                if error is broken or _is_final(error):
                    raise
                broken = error
        raise broken

    def _continues(self) -> bool:
        """Whether the answer begins where the bytes end, and is of the same version of the file."""
        answer = self._file.r
        found = content_range(answer.headers) if answer.status == 206 else None
        same = strong_validator(answer.headers) in (None, self._validator)
        return found is not None and found[0] == self._done and same

    def close(self) -> None:
        """Close the connection."""
        self._file.close()


def _is_final(error: Exception) -> bool:
    """Whether a server has refused for good."""
    status = getattr(error, "status", None)
    return isinstance(error, FileNotFoundError) or (
        status is not None and status < 500 and status not in (408, 429)
    )
