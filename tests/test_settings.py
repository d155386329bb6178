"""Settings from YAML and JSON."""

import io
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from genotok.errors import InputError
from genotok.settings import parse_settings, read_mapping


@dataclass
class Inner:
    __pydantic_config__: ClassVar = {"extra": "forbid"}
    size: int = 1


@dataclass
class Outer:
    __pydantic_config__: ClassVar = {"extra": "forbid"}
    name: str
    rate: float = 0.5
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self):
        if self.rate < 0:
            raise InputError("rate: must not be negative")


@pytest.mark.parametrize("text", ["name: x\ninner:\n  size: 3\n", '{"name": "x", "inner": {"size": 3}}'])
def test_yaml_and_json(text, tmp_path, monkeypatch):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    values = read_mapping(str(path))
    assert parse_settings(Outer, values, "c.yaml") == Outer("x", 0.5, Inner(3))
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert read_mapping("-") == values


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"a: 1\nb: [1, 2\nc: 3\n", "line 3 is not YAML"),
        (b"a: 1\n\tb: 2\n", "line 2 is not YAML"),
        (b"- a\n- b\n", "should hold keys with values"),
        (b"", "should hold keys with values"),
        (b"just text", "should hold keys with values"),
        (b"a: !!python/object/apply:os.system ['true']\n", "line 1 is not YAML"),
    ],
)
def test_a_bad_file_is_said(content, sentence, tmp_path):
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_mapping(str(path))
    assert str(error.value).startswith(f"{path}: ")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_standard_input_is_said(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("[1"))
    with pytest.raises(InputError, match=r"^standard input: "):
        read_mapping("-")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "c.yaml: name: "),
        ({"name": 3}, "c.yaml: name: Input should be a valid string"),
        ({"name": "x", "nmae": "y"}, "c.yaml: nmae: "),
        ({"name": "x", "inner": {"size": "big"}}, "c.yaml: inner.size: Input should be a valid integer"),
        ({"name": "x", "inner": {"siez": 1}}, "c.yaml: inner.siez: "),
        ({"name": "x", "inner": 3}, "c.yaml: inner: "),
        ({"name": "x", "rate": -1}, "c.yaml: rate: must not be negative"),
        ({"name": "x", 3: 4}, "c.yaml: 3: "),
    ],
)
def test_a_bad_value_is_said_with_its_key(values, sentence):
    with pytest.raises(InputError) as error:
        parse_settings(Outer, values, "c.yaml")
    assert str(error.value).startswith(sentence)
