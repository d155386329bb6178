"""Models read from the Hugging Face Hub, which a server on this machine stands for."""

import json
import os
import subprocess
import sys

import pytest
from hub_server import HubServer, commit_of
from tiny_models import tiny_model

from genotok.errors import InputError
from genotok.models import GenomicLM

# Reads each model of a list and prints what came of it; pauses between attempts are left out.
READ = """
import json, sys, time
time.sleep = lambda seconds: None
from genotok.errors import InputError
from genotok.models import GenomicLM
assert "huggingface_hub" not in sys.modules
for words, settings in json.loads(sys.stdin.read()):
    try:
        found = "hash " + GenomicLM.from_pretrained(words, **settings).content_hash()
    except InputError as error:
        found = f"refused {error}"
    print(json.dumps(found))
"""


def read_models(wanted, folder, **environment):
    """What `READ` prints of each of `wanted`, run in `folder` with a cache of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = {**kept, "HF_HOME": str(folder / "cache"), **environment}
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=json.dumps(wanted),
        env=environment,
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


FAILING = {"lab/gated": "gated", "lab/broken": 500, "lab/silent": "drop", "lab/locked": 403}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repositories")
    model = tiny_model("one stage")
    model.save_pretrained(folder / "good")
    model.save_pretrained(folder / "half")
    (folder / "half" / "model.safetensors").unlink()
    (folder / "empty").mkdir()
    (folder / "empty" / "README.md").write_text("nothing\n")
    folders = {f"lab/{name}": folder / name for name in ("good", "half", "empty")}
    with HubServer(folders, FAILING) as server:
        yield server


@pytest.fixture(scope="module")
def seen(hub, tmp_path_factory):
    """What became of models of every kind, read in one process: source or source with a revision -> outcome.

    `requests` are those that the server got meanwhile.
    """
    commit = commit_of(hub.repositories["lab/good"])
    wanted = [(name, {}) for name in ("lab/good", "lab/good@v1", f"lab/good@{commit}", "lab/good@v2")]
    wanted += [("lab/good", {"revision": "v1"}), ("lab/good", {"revision": "v2"})]
    wanted += [(name, {}) for name in ("lab/half", "lab/empty", "lab/none", *FAILING)]
    folder = tmp_path_factory.mktemp("reader")
    found = read_models(wanted, folder, HF_ENDPOINT=hub.endpoint, HF_TOKEN="hf_secret")
    # The same cache without a network.
    known = [("lab/good", {}), ("lab/none", {})]
    offline = read_models(known, folder, HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="1")
    gone = read_models(known, folder, HF_ENDPOINT="http://127.0.0.1:9")
    keys = [name + str(settings.get("revision", "")) for name, settings in wanted]
    keys += [f"{name} {state}" for state in ("offline", "gone") for name, _ in known]
    return {**dict(zip(keys, found + offline + gone, strict=True)), "requests": list(hub.asked)}


def test_models_that_are_there(hub, seen):
    wanted = f"hash {tiny_model('one stage').content_hash()}"
    commit = commit_of(hub.repositories["lab/good"])
    names = (
        "lab/good",
        "lab/good@v1",
        f"lab/good@{commit}",
        "lab/goodv1",
        "lab/good offline",
        "lab/good gone",
    )
    assert {name: seen[name] for name in names} == dict.fromkeys(names, wanted)


def test_the_token_is_sent_and_the_weights_come_once(hub, seen):
    assert {token for _, _, token in seen["requests"]} == {"Bearer hf_secret"}
    weights = [
        path for method, path, _ in seen["requests"] if method == "GET" and "model.safetensors" in path
    ]
    assert weights == [f"/lab/good/resolve/{commit_of(hub.repositories['lab/good'])}/model.safetensors"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lab/good@v2", "lab/good@v2: there is no such revision"),
        ("lab/goodv2", "lab/good@v2: there is no such revision"),
        ("lab/half", "no model.safetensors in this repository, so it holds no genotok model"),
        ("lab/empty", "lab/empty: no config.json in this repository, so it holds no genotok model"),
        ("lab/none", "lab/none: is no folder here, and no model that http://127.0.0.1:"),
        ("lab/gated", "lab/gated: is gated; ask for access at http://127.0.0.1:"),
        ("lab/broken", "config.json is not in the cache, and http://127.0.0.1:"),
        ("lab/broken", "500"),
        ("lab/silent", "check the network"),
        ("lab/locked", "403"),
        ("lab/none offline", "check the network, HF_ENDPOINT and HF_HUB_OFFLINE"),
        ("lab/none gone", "http://127.0.0.1:9 did not give it"),
    ],
)
def test_what_fails_is_said_in_one_sentence(name, sentence, seen):
    assert seen[name].startswith("refused lab/")
    assert sentence in seen[name]
    assert "\n" not in seen[name]


def test_a_verb_takes_a_name(hub, seen, tmp_path):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-m", "genotok", "generate", "lab/good", "--prompt", "ACGT", "--length", "6"],
        env={**kept, "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_secret"},
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "ACGT" in done.stdout


@pytest.mark.parametrize(
    "name", ["results/modle", "./lab/model", "../lab/model", "lab/model/", "/lab/model", "lab"]
)
def test_a_path_is_not_asked_for_on_the_hub(name, tmp_path, monkeypatch):
    """No module of the Hub is imported, so no server is asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    (tmp_path / "results").mkdir()
    with pytest.raises(InputError, match=r"no config\.json here"):
        GenomicLM.from_pretrained(name)


def test_revisions_that_contradict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="lab/model@v1: names another revision than 'v2'"):
        GenomicLM.from_pretrained("lab/model@v1", revision="v2")
    tiny_model("mamba").save_pretrained(tmp_path / "lab" / "model")
    assert GenomicLM.from_pretrained("lab/model").config.layout == ["M2"]
    with pytest.raises(InputError, match="lab/model: is a folder, and only a name on the Hub has a revision"):
        GenomicLM.from_pretrained("lab/model", revision="main")


def test_info_needs_the_configuration_alone(hub, tmp_path):
    """A name as everywhere else; weights are not fetched for what the configuration tells."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    before = len(hub.asked)
    done = subprocess.run(
        [sys.executable, "-m", "genotok", "info", "lab/good@v1", "--length", "100", "--json"],
        env={**kept, "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint},
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    own = sum(parameter.numel() for parameter in tiny_model("one stage").parameters())
    assert json.loads(done.stdout)["parameters"]["total"] == own
    assert {path.rsplit("/", 1)[1] for _, path, _ in hub.asked[before:]} == {"config.json"}
