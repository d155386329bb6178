"""What each part of the package may import and call."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import genotok

PACKAGE = Path(genotok.__file__).parent
# A room may import only those before it, and the modules at the package's top, which import no room.
ROOMS = [
    "genomes",
    "tokenizers",
    "shards",
    "kernels",
    "models",
    "pretrained",
    "training",
    "evaluation",
    "variants",
    "interpret",
    "report",
    "comparison",
    "hf",
    "cli",
]
# The package itself resolves names of rooms on first use, and `python -m genotok` runs the command line.
ENTRANCES = {"genotok/__init__.py", "genotok/__main__.py"}
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    return str(path.relative_to(PACKAGE.parent))


def room_of(parts):
    """The room of a dotted name below the package, or None for a module at the top."""
    return parts[0] if parts and parts[0] in ROOMS else None


def imported(path):
    """(line, dotted parts below the package) of every import of genotok in a file, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, *parts = name.split(".")
            if package == "genotok":
                yield node.lineno, parts


def test_every_folder_is_a_room():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders <= set(ROOMS)


@pytest.mark.parametrize("path", [path for path in FILES if name_of(path) not in ENTRANCES], ids=name_of)
def test_a_room_imports_only_those_before_it(path):
    own = room_of([path.relative_to(PACKAGE).parts[0].removesuffix(".py")])
    allowed = set(ROOMS[: ROOMS.index(own) + 1]) if own else set()
    wrong = [
        f"{name_of(path)}:{line}: genotok.{'.'.join(parts)}"
        for line, parts in imported(path)
        if room_of(parts) and room_of(parts) not in allowed
    ]
    assert wrong == []


def test_the_check_sees_imports():
    """The rooms do import each other, so that the test above cannot pass by seeing nothing."""
    seen = {(room_of([path.parent.name]), room_of(parts)) for path in FILES for _, parts in imported(path)}
    assert {("training", "models"), ("models", "kernels"), ("shards", "genomes")} <= seen


def test_nothing_imports_the_adapter_for_transformers():
    """So that the package works without transformers."""
    assert not [name_of(path) for path in FILES for _, parts in imported(path) if parts[:1] == ["hf"]]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_unpickled(path):
    tree = ast.parse(path.read_text())
    called = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not called & {"torch.serialization.load", "numpy.load", "np.load", "yaml.load"}
    assert not (names | modules) & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_torch_reads_tensors_alone(path):
    """`torch.load` is called with `weights_only=True`, and appears in no other way."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    named = [node for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load"]
    safe = [
        node.func
        for node in nodes
        if isinstance(node, ast.Call)
        and any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
    ]
    assert all(node in safe for node in named)
    imported_from_torch = [
        node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "torch"
    ]
    assert not any(alias.name == "load" for node in imported_from_torch for alias in node.names)


HEAVY = {
    "pysam",
    "pyfaidx",
    "matplotlib",
    "pandas",
    "scipy",
    "sklearn",
    "captum",
    "snakemake",
    "tensorboard",
    "tokenizers",
    "typer",
    "rich",
    "pydantic",
    "yaml",
    "huggingface_hub",
    "transformers",
    "sympy",  # which torch's compiler and FSDP2 import, and that takes seconds
}


def modules_after(statement):
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}; import sys; print(*sys.modules, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_training_needs_torch_numpy_pyarrow_and_safetensors_alone():
    """So that a bare GPU node can train."""
    rooms = ", ".join(
        f"genotok.{path.relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.')}"
        for room in ("tokenizers", "kernels", "models", "pretrained", "training")
        for path in sorted((PACKAGE / room).rglob("*.py"))
        if path.name != "__init__.py"
    )
    found = modules_after(f"import {rooms}, genotok; genotok.GenomicLM, genotok.ModelConfig")
    assert {"torch", "numpy", "pyarrow", "safetensors"} <= found
    assert not found & HEAVY


def test_reading_and_running_a_model_imports_nothing_heavy(tmp_path):
    """Nor does torch, when a model is made without numbers, import its compiler."""
    config = {
        "layout": ["m1", ["T1"], "m1"],
        "d_model": [16, 16],
        "d_intermediate": [0, 32],
        "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
        "mamba2": {"d_state": 8, "head_dim": 16, "chunk_size": 16},
    }
    genotok.GenomicLM(genotok.ModelConfig.from_dict(config)).save_pretrained(tmp_path)
    run = f"model = GenomicLM.from_pretrained({str(tmp_path)!r}); model(torch.zeros(1, 9, dtype=torch.long))"
    assert not modules_after(f"import torch; from genotok import GenomicLM; {run}") & HEAVY


def test_the_package_itself_imports_nothing_heavy():
    assert not modules_after("import genotok") & (HEAVY | {"torch", "numpy", "pyarrow"})


@pytest.mark.parametrize("name", ["GenomicLM", "ModelConfig", "load_tokenizer", "pretrained", "models"])
def test_names_of_the_package(name):
    assert getattr(genotok, name) is not None


def test_an_unknown_name_of_the_package():
    with pytest.raises(AttributeError, match="module 'genotok' has no attribute 'GenomicML'"):
        genotok.GenomicML  # noqa: B018
