"""Labels that are predicted, method beside method: figure, table, page."""

import json

import pandas as pd
import pytest

from genotok.errors import InputError
from genotok.report.downstream import labels_predicted, report_downstream, results_table
from genotok.report.names import DOWNSTREAM_METHODS
from genotok.report.page import write_page


def compared(rows, **mcc):
    methods = {
        name: {"metrics": {"mcc": {"value": value, "low": value - 0.1, "high": value + 0.1}}, "classes": []}
        for name, value in mcc.items()
    }
    return {"rows": rows, "methods": methods, "differences": {}}


def result(task, parts, kind="classification"):
    about = {"kind": kind, "label": ["class"], "split": {"by": "folds"}, "statement": f"{task} <said>."}
    return {"task": task, "results": parts, **about}


@pytest.fixture
def files(tmp_path):
    numbers = compared(50)
    numbers["methods"] = {
        "probe": {"metrics": {"pearson": {"value": 0.5, "low": 0.4, "high": 0.6}}},
        "majority": {"metrics": {"pearson": {"value": None, "low": None, "high": None}}},
    }
    probed = {"all": compared(90, probe=0.3, random_weights=0.1, kmers=-0.35, majority=0.0)}
    probed["not_in_train"] = compared(70, probe=0.25, kmers=0.2)
    named = {
        "one": result("probe", probed),
        "one tuned": result("finetune", {"all": compared(90, finetune=0.6, majority=0.01)}),
        "two": result("probe", {"all": numbers}, "regression"),
    }
    for name, values in named.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    return [
        ("one", tmp_path / "one.json"),
        ("one", tmp_path / "one tuned.json"),
        ("two", tmp_path / "two.json"),
    ]


def read(files):
    return [(name, json.loads(path.read_text())) for name, path in files]


def test_one_row_a_metric(files):
    data = results_table(read(files))
    main = data[(data["set"] == "one") & (data["part"] == "all")]
    assert main["method"].tolist() == list(DOWNSTREAM_METHODS)
    assert main["value"].tolist() == [0.6, 0.3, 0.1, -0.35, 0.0]  # the majority of the first file
    assert data["part"].tolist() == ["all"] * 5 + ["not_in_train"] * 2 + ["all"] * 2


def test_the_figure_says_each_value(files):
    figure = labels_predicted(results_table(read(files)))
    said = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert said == [
        ["0.600", "0.300", "0.100", "\N{MINUS SIGN}0.350", "0.000"],
        ["0.250", "0.200"],
        ["0.500", "none"],
    ]
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["one, 90 rows", "one, 70 rows that do not stand in train", "two, 50 rows"]
    assert figure.axes[2].get_xlabel() == "Pearson's correlation (95 % interval)"
    lines = [list(line.get_xdata()) for line in figure.axes[1].lines if len(line.get_xdata()) == 2]
    assert [pytest.approx(line) for line in lines[1:]] == [[0.15, 0.35], [0.1, 0.3]]


def test_files_and_page(files, tmp_path):
    for name in ("a", "b"):
        report_downstream(files, tmp_path / name)
    for name in ("downstream.svg", "downstream.tsv", "downstream.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    table = pd.read_csv(tmp_path / "a" / "downstream.tsv", sep="\t")
    assert table.shape == (9, 8)
    sets = json.loads((tmp_path / "a" / "downstream.json").read_text())["sets"]
    assert {name: list(about["tasks"]) for name, about in sets.items()} == {
        "one": ["probe", "finetune"],
        "two": ["probe"],
    }
    write_page([tmp_path / "a"], tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert (
        "one, Matthews&#x27; correlation: this model, fine-tuned 0.600; this model, linear probe 0.300;"
        in page
    )
    assert "<td>0.300 (0.200 to 0.400)</td>" in page
    assert "probe &lt;said&gt;." in page
    assert "70 rows that do not stand in train:" in page


def test_another_file_is_named(tmp_path):
    (tmp_path / "x.json").write_text('{"task": "lm"}')
    with pytest.raises(InputError, match=r"x\.json: has no 'kind'; give the JSON file of `genotok probe`"):
        report_downstream([("x", tmp_path / "x.json")], tmp_path / "out")
    assert not (tmp_path / "out").exists()
