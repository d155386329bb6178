"""The examples of the documentation run, alone and on several processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs"
SHORT = sorted(
    path.name for path in (FOLDER / "examples").glob("*.py") if path.name != "letter_repetition.py"
)


def run(*command, cwd):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", SHORT)
def test_it_runs(name, tmp_path):
    assert run(sys.executable, FOLDER / "examples" / name, cwd=tmp_path).strip()


LAUNCHERS = {
    "alone": [sys.executable],
    "two processes": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_letter_repetition_learns(launcher, tmp_path):
    """The first steps already halve the loss; the whole run takes a minute."""
    script = FOLDER / "examples" / "letter_repetition.py"
    text = run(*LAUNCHERS[launcher], script, "--steps", "60", "--html", "chunks.html", cwd=tmp_path)
    losses = [float(found) for found in re.findall(r"step \d+: ([\d.]+) nats", text)]
    assert len(losses) == 3  # printed once, whatever the number of processes
    assert losses[-1] < losses[0] / 2
    lines = text.splitlines()[-2:]
    page = (tmp_path / "chunks.html").read_text()
    assert page.count("<p>") == 2
    for line, paragraph in zip(lines, re.findall("<p>(.*?)</p>", page), strict=True):
        assert line.split("|") == re.findall(">(.*?)</span>", paragraph)


def test_pages_name_what_is_there():
    """Every picture and every script that a page of the documentation names exists."""
    pages = [*FOLDER.rglob("*.md"), FOLDER.parent / "README.md"]
    assert len(pages) > 5
    for page in pages:
        text = page.read_text()
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page}: {target}"
        for script in re.findall(r"python (docs/\S+\.py)", text):
            assert (FOLDER.parent / script).exists(), f"{page}: {script}"
