"""Servers on this machine, started for one test each."""

import socketserver
import threading

import pytest
from file_server import FileServer, FtpSession


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = FileServer()
    yield running
    running.close()


@pytest.fixture
def ftp(monkeypatch):
    """An FTP server; `files[name]` lists (announced length, body) for the coming transfers, the last for good."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = socketserver.ThreadingTCPServer(("127.0.0.1", 0), FtpSession)
    running.daemon_threads = True
    running.files = {}
    running.base = f"ftp://127.0.0.1:{running.server_address[1]}"
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()
