"""A server on this machine that answers as the Hugging Face Hub does where `huggingface_hub` asks for files."""

import hashlib
import http.server
import re
import threading
from pathlib import Path

_ADDRESS = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")


class HubServer:
    """Serves folders as repositories, each with one commit.

    Attributes:
        repositories: name -> folder with its files.
        failing: name -> how every request about it fails: an HTTP status, `gated`, or `drop` (no answer at all).
        asked: of each request for a file its method, path and Authorization header, in order.
    """

    def __init__(self, repositories: dict[str, Path], failing: dict[str, int | str]):
        self.repositories, self.failing = repositories, failing
        self.asked: list[tuple[str, str, str | None]] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def commit_of(folder: Path) -> str:
    """Forty hexadecimal digits that change with the files of a folder."""
    digest = hashlib.sha1()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        found = _ADDRESS.fullmatch(self.path)
        if found:
            self.hub.asked.append((self.command, self.path, self.headers.get("Authorization")))
        name = found["repository"] if found else ""
        failure = self.hub.failing.get(name)
        folder = self.hub.repositories.get(name)
        if failure == "drop":
            self.close_connection = True
            self.connection.close()
        elif failure == "gated":
            self._send(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
        elif isinstance(failure, int):
            self._send(failure, {})
        elif folder is None:
            self._send(404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif found["revision"] not in ("main", "v1", commit_of(folder)):
            self._send(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        elif not (folder / found["name"]).is_file():
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        else:
            body = (folder / found["name"]).read_bytes()
            etag = hashlib.sha256(body).hexdigest()
            self._send(200, {"ETag": f'"{etag}"', "X-Repo-Commit": commit_of(folder)}, body)

    def _send(self, status: int, headers: dict[str, str], body: bytes = b""):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
