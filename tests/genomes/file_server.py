"""A real HTTP server on this machine that misbehaves as scripted, and a small FTP server."""

import http.server
import re
import socketserver
import threading
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Step:
    """How one request is answered; the default is as a good server does.

    Attributes:
        status: an error status to send, with `body`; None serves the file.
        body: the body sent with `status`.
        headers: headers to add.
        cut_after: close the connection after this many bytes of the body.
        stall_after: send nothing more after this many bytes of the body.
        hang_up: close the connection without any answer.
        shift: answer a range request with a range that begins this much later than asked.
        ignore_if_range: send the range although the file has changed.
        hide_length: send no Content-Length.
        chunked: send in chunks; with `cut_after`, without the last one.
    """

    status: int | None = None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    stall_after: int | None = None
    hang_up: bool = False
    shift: int = 0
    ignore_if_range: bool = False
    hide_length: bool = False
    chunked: bool = False


@dataclass
class File:
    body: bytes
    etag: str | None = '"v1"'
    modified: str | None = None
    ranges: bool = True


@dataclass
class Seen:
    """One request as the server saw it, and how many bytes of the body it sent."""

    method: str
    path: str
    range: str | None
    if_range: str | None
    sent: int = 0


class FileServer:
    """Serves `files` (path -> File); `script[path]` holds one Step per coming request."""

    def __init__(self):
        self.files: dict[str, File] = {}
        self.script: dict[str, list[Step]] = defaultdict(list)
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def serve(self, path: str, body: bytes, *steps: Step, **file) -> str:
        """Put a file up, script the first requests for it, forget what was seen; returns its address."""
        self.files[path] = File(body, **file)
        self.script[path] = list(steps)
        self.seen.clear()
        return self.base + path

    @property
    def bytes_sent(self) -> int:
        return sum(request.sent for request in self.seen)

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(files: FileServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            files.seen.append(Seen("HEAD", self.path, None, None))
            self.send_error(405)

        def do_GET(self):
            seen = Seen("GET", self.path, self.headers["Range"], self.headers["If-Range"])
            files.seen.append(seen)
            path = self.path if self.path in files.files else self.path.split("?")[0]
            step = files.script[path].pop(0) if files.script[path] else Step()
            if step.hang_up:
                self.connection.close()
            elif step.status is not None:
                self._send(seen, step, step.status, step.body, {})
            elif path not in files.files:
                self._send(seen, step, 404, b"<html>not here</html>", {})
            else:
                self._send_file(seen, step, files.files[path])

        def _send_file(self, seen: Seen, step: Step, file: File):
            headers = {"ETag": file.etag, "Last-Modified": file.modified}
            headers = {name: value for name, value in headers.items() if value}
            wanted = re.fullmatch(r"bytes=(\d+)-", seen.range or "")
            unchanged = step.ignore_if_range or seen.if_range in (file.etag, file.modified)
            if not (file.ranges and wanted and unchanged):
                return self._send(seen, step, 200, file.body, headers)
            start = int(wanted[1]) + step.shift
            if start >= len(file.body):
                return self._send(seen, step, 416, b"", {"Content-Range": f"bytes */{len(file.body)}"})
            headers["Content-Range"] = f"bytes {start}-{len(file.body) - 1}/{len(file.body)}"
            return self._send(seen, step, 206, file.body[start:], headers)

        def _send(self, seen: Seen, step: Step, status: int, body: bytes, headers: dict[str, str]):
            self.protocol_version = "HTTP/1.1" if step.chunked else "HTTP/1.0"
            self.send_response(status)
            framing = {"Transfer-Encoding": "chunked"} if step.chunked else {"Content-Length": str(len(body))}
            for name, value in (headers | step.headers | ({} if step.hide_length else framing)).items():
                self.send_header(name, value)
            self.end_headers()
            ends = [end for end in (step.cut_after, step.stall_after) if end is not None]
            part = body[: min(ends)] if ends else body
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if step.chunked else part)
            if step.chunked and not ends:
                self.wfile.write(b"0\r\n\r\n")
            seen.sent = len(part)
            if step.stall_after is not None:
                files.closing.wait(5)
            self.close_connection = True

        def log_message(self, *_):
            pass

    return Handler


class FtpSession(socketserver.StreamRequestHandler):
    """Just enough of RFC 959 for a passive download."""

    def handle(self):
        self.say("220 ready")
        while line := self.rfile.readline().decode().strip():
            verb, _, argument = line.partition(" ")
            getattr(self, f"ftp_{verb.lower()}", self.unknown)(argument)

    def say(self, text: str):
        self.wfile.write(text.encode() + b"\r\n")

    def unknown(self, _):
        self.say("502 not implemented")

    def ftp_user(self, _):
        self.say("331 password")

    def ftp_pass(self, _):
        self.say("230 welcome")

    def ftp_type(self, _):
        self.say("200 ok")

    def ftp_pwd(self, _):
        self.say('257 "/"')

    def ftp_cwd(self, folder):
        self.say("250 ok" if folder in ("", "/", "pub") else "550 no such directory")

    def ftp_pasv(self, _):
        self.data = socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        port = self.data.server_address[1]
        self.say(f"227 passive (127,0,0,1,{port >> 8},{port & 255})")

    def ftp_retr(self, name):
        answers = self.server.files.get(name)
        if not answers:
            self.data.server_close()
            return self.say("550 no such file")
        announced, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.say(f"150 opening ({announced} bytes)")
        connection, _ = self.data.socket.accept()
        connection.sendall(body)
        connection.close()
        self.data.server_close()
        return self.say("226 done")
