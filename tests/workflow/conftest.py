"""What the tests of the workflow share."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from small_workflow import Workflow
from waiting import wait_for


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workflow:
    """A workflow that has run to its end; leave it as it is."""
    workflow = Workflow(tmp_path_factory.mktemp("finished") / "work")
    workflow.run()
    return workflow


@pytest.fixture(scope="session")
def interrupted(tmp_path_factory) -> Workflow:
    """The same on one core, with SIGKILL to Snakemake while a rule runs, rule after rule; leave it as it is."""
    workflow = Workflow(tmp_path_factory.mktemp("interrupted") / "work")
    results = workflow.folder / "results"
    for marker in (
        results / "logs" / "prepare_genome" / "lambda.log",
        results / "logs" / "tokenize_genome" / "lambda.log",
        results / "model" / "checkpoints" / "step-00000004",
        results / "logs" / "evaluate.log",
        results / "logs" / "score_variants" / "fitness" / "1-of-2.log",
        results / "logs" / "results_page.log",
    ):
        process = workflow.start("--cores", "1")
        wait_for(marker, process, workflow.folder / "snakemake.log", seconds=500)
        process.kill()
        process.wait()
    workflow.run("--cores", "1")
    return workflow


@pytest.fixture
def busy_server(monkeypatch):
    """Serve bytes over HTTP, after saying 503 once; call it with the bytes to get the address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    answers = {"body": b"", "left_to_refuse": 1}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            refused = answers["left_to_refuse"] > 0
            answers["left_to_refuse"] -= 1
            body = b"busy" if refused else answers["body"]
            self.send_response(503 if refused else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def serve(body: bytes) -> str:
        answers["body"] = body
        return f"http://127.0.0.1:{server.server_address[1]}/lambda.fa"

    yield serve
    server.shutdown()
    server.server_close()
