"""What `genotok info` finds and prints."""

import sys

import pytest
import torch

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.models.cost import model_cost
from genotok.report.model_info import (
    COLUMNS,
    WINDOWS,
    describe_model,
    letters_a_token,
    print_info,
    summary_lines,
)
from genotok.tokenizers import load_tokenizer

CONFIG = {
    "layout": ["m1", ["T1"], "m1"],
    "d_model": [16, 16],
    "d_intermediate": [0, 32],
    "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
    "mamba2": {"d_state": 8, "head_dim": 16, "chunk_size": 16},
}
PARTS = [
    "embedding",
    "stage 0 encoder",
    "stage 0 chunker",
    "stage 1 blocks",
    "stage 0 decoder",
    "head",
    "total",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a model."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    GenomicLM(ModelConfig.from_dict(CONFIG)).save_pretrained(folder)
    return str(folder)


def test_a_folder(model):
    found = describe_model(model, 600)
    assert list(found["parameters"]) == PARTS
    weights = GenomicLM.from_pretrained(model).parameters()
    assert found["parameters"]["total"] == sum(part.numel() for part in weights)
    assert (found["compression"], found["compression_is"]) == ([3.0], "assumed")
    flops = found["flops_per_base"]
    assert flops["total"]["total"] == pytest.approx(sum(flops[name]["total"] for name in PARTS[:-1]))
    assert found["chunks"] == []


def test_a_preset_and_a_file(model):
    assert describe_model("hnet_2stage_dna", compression=[4, 2])["compression"] == [4, 2]
    assert describe_model(f"{model}/config.json")["parameters"] == describe_model(model)["parameters"]


def test_a_sequence(model):
    found = describe_model(model, 16, sequence="acgttgca" * 5)
    (stage,) = found["chunks"]
    assert stage["chunks"] * stage["mean"] == pytest.approx(40)
    assert found["compression"] == [stage["compression"]]
    assert found["compression_is"] == "measured"
    assert describe_model(model, 16, [2.0], sequence="ACGT")["compression_is"] == "given"


def test_the_first_windows_of_a_fasta(model, tmp_path):
    """Windows go on in the next contig and end where there are enough."""
    (tmp_path / "some.fa").write_text(f">a\n{'ACGTTGCA' * 5}\n>empty\n>b\n{'GATTACA' * 1000}\n")
    (stage,) = describe_model(model, 16, fasta=tmp_path / "some.fa")["chunks"]
    assert stage["chunks"] * stage["mean"] == pytest.approx(40 + (WINDOWS - 3) * 16)


@pytest.mark.parametrize(
    ("tokenizer", "sequence", "letters", "origin"),
    [
        ("kmer", None, 6, "known"),
        ({"type": "kmer", "k": 4, "stride": 2}, "ACGT", 2, "known"),
        ("ntv2", None, 6, "known"),
        # GAT T ACA, four times: three tokens for seven letters
        ({"type": "bpe", "merges": ["A C", "AC A", "G A", "GA T"]}, "GATTACA" * 4, 7 / 3, "measured"),
    ],
)
def test_operations_a_letter(tokenizer, sequence, letters, origin, tmp_path):
    """The whole work over the letters that the tokens stand for."""
    settings = CONFIG | {"layout": ["m1"], "d_model": 16, "d_intermediate": 0}
    config = ModelConfig.from_dict(settings | {"tokenizer": tokenizer})
    GenomicLM(config).save_pretrained(tmp_path)
    found = describe_model(str(tmp_path), 600, sequence=sequence)
    assert (found["letters_a_token"], found["letters_a_token_is"]) == (pytest.approx(letters), origin)
    whole = model_cost(config, 600, []).flops.total
    assert found["flops_per_base"]["total"]["total"] == pytest.approx(whole / (600 * letters))
    assert any(line.startswith(f"letters a token, {origin}: ") for line in summary_lines(found))


def test_letters_of_byte_pairs_without_letters_to_measure_in():
    """Random letters stand in, the same ones every time."""
    tokenizer = load_tokenizer({"type": "bpe", "merges": ["A C", "A G", "A T"]})
    letters, origin = letters_a_token(tokenizer)
    assert origin == "random letters"
    # Of N random letters 3 N / 16 make a pair with the A in front.
    assert letters == pytest.approx(1 / (1 - 3 / 16), rel=0.02)
    assert letters_a_token(tokenizer) == (letters, origin)


def test_plain_text(model, capsys):
    found = describe_model(model, 100, sequence="ACGTTGCA")
    print_info(found)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines if "\t" in line] == ["part", *PARTS]
    assert any(line.startswith("compression measured: ") for line in lines)
    assert any(line.startswith("chunks of stage 0: ") for line in lines)


def test_a_terminal(model, capsys, monkeypatch):
    """The same numbers in a table."""
    found = describe_model(model, 100)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_info(found)
    text = capsys.readouterr().out
    assert all(word in text for word in (*COLUMNS, *PARTS, f"{found['parameters']['total']:,}"))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model": "no_such_model"}, "no_such_model: is neither"),
        ({"model": "hnet_1stage_dna", "sequence": "ACG"}, "hnet_1stage_dna: no config.json"),
        ({"compression": [3, 2]}, "compression"),
        ({"sequence": "AXC"}, "'X'"),
        ({"sequence": ""}, "sequence: holds no letters"),
        ({"sequence": "A", "fasta": "x.fa"}, "not both"),
        ({"fasta": "x.fa"}, "x.fa"),
    ],
    ids=str,
)
def test_bad_input(model, settings, named):
    with pytest.raises(InputError, match=named):
        describe_model(**{"model": model, **settings})
