"""The examples of the documentation run, alone and on several processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from genotok import GenomicLM, ModelConfig
from genotok.cli import app

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


PAGES = [*FOLDER.rglob("*.md"), FOLDER.parent / "README.md", FOLDER.parent / "CONTRIBUTING.md"]


def anchors_of(page):
    """What GitHub calls the headings of a page."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_pages_name_what_is_there():
    """Every page, section, picture and script that a page of the documentation names exists."""
    assert len(PAGES) > 5
    for page in PAGES:
        text = page.read_text()
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
            named = page.parent / target if target else page
            assert named.exists(), f"{page}: {target}"
            assert not anchor or anchor in anchors_of(named), f"{page}: {target}#{anchor}"
        for script in re.findall(r"python (docs/\S+\.py)", text):
            assert (FOLDER.parent / script).exists(), f"{page}: {script}"


def test_python_of_the_readme(tmp_path, monkeypatch):
    """The shapes are those that its comments say."""
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (FOLDER.parent / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    GenomicLM(ModelConfig.reasonable([16, 24], ["m1", "T1"])).save_pretrained(tmp_path / "results" / "model")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    output = names["output"]
    assert names["nats"].shape == output.boundaries[0].prob.shape == output.boundaries[0].mask.shape == (1, 8)
    assert output.logits.shape == (1, 8, 16)
    assert output.hidden_states[-1].shape == (1, 8, 16)
    assert output.loss > 0


def test_commands_have_the_options_that_pages_give_them():
    """Every option of `genotok VERB ...` in a block of commands is one of the verb's."""
    text = "\n".join(page.read_text() for page in PAGES)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "".join(block for language, block in blocks if not language).replace("\\\n", " ")
    commands = re.findall(r"(?:^|&& |-m |\| )genotok ([^\n&|#]+)", lines, re.MULTILINE)
    assert len(commands) > 40
    for command in commands:
        words, verb = iter(command.split()), typer.main.get_command(app)
        while hasattr(verb, "commands"):
            verb = verb.commands[next(words)]
        known = {option for parameter in verb.params for option in parameter.opts}
        assert {word for word in words if re.match("--?[a-z]", word)} <= known, command
