"""The logo of a saturation mutagenesis."""

import math
import re

import pandas as pd
import pytest

from genotok.errors import InputError
from genotok.genomes.regions import Region
from genotok.report.logo import check_logo, logo_data, write_logo

HEADER = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
LINES = [
    "a:1\t5\t.\tG\tA,C,T\t.\t.\tGENOTOK_LLR=0,0,0;GENOTOK_STATUS=ok,ok,ok",
    "a:1\t5\t.\tGT\tG\t.\t.\tGENOTOK_LLR=-2.5;GENOTOK_STATUS=ok",
    "a:1\t6\t.\tT\tA,C,G\t.\t.\tGENOTOK_LLR=-900,-900,-900;GENOTOK_STATUS=ok,ok,ok",
    "a:1\t8\t.\tA\tC,G,T\t.\t.\tGENOTOK_LLR=900,-1,2;GENOTOK_STATUS=ok,ok,ok",
    "b\t2\t.\tC\tA,G,T\t.\t.\tGENOTOK_LLR=-0.693147,-0.693147,-100;GENOTOK_STATUS=ok,ok,ok",
]
REGIONS = [Region("a:1", 4, 8), Region("b", 1, 2)]


@pytest.fixture
def scored(tmp_path):
    path = tmp_path / "scored.vcf"
    path.write_text(HEADER + "".join(line + "\n" for line in LINES))
    return path


def test_heights_are_the_information_of_what_the_model_expects(scored):
    data = logo_data(scored).set_index(["contig", "position"])
    bits = data[[f"bits_{letter}" for letter in "ACGT"]]
    assert bits.loc["a:1", 5].tolist() == pytest.approx([0, 0, 0, 0])
    assert bits.loc["a:1", 6].tolist() == pytest.approx([0, 0, 0, 2])
    assert bits.loc["a:1", 8].tolist() == pytest.approx([0, 2, 0, 0])
    # one half, and two quarters: 1.5 bits of entropy
    assert bits.loc["b", 2].tolist() == pytest.approx([0.125, 0.25, 0.125, 0], abs=1e-5)
    assert data.loc[("b", 2), [f"probability_{letter}" for letter in "ACGT"]].tolist() == pytest.approx(
        [0.25, 0.5, 0.25, 0], abs=1e-5
    )
    assert data.loc[("a:1", 6), "score_deletion"] == -2.5
    assert math.isnan(data.loc[("a:1", 5), "score_G"])


def test_the_figure_and_its_data(scored, tmp_path):
    write_logo(scored, tmp_path / "out" / "logo.svg", REGIONS)
    first = (tmp_path / "out" / "logo.svg").read_bytes()
    data = pd.read_csv(tmp_path / "out" / "logo.tsv", sep="\t")
    assert data.position.tolist() == [5, 6, 8, 2]
    assert data.ref.tolist() == ["G", "T", "A", "C"]
    write_logo(scored, tmp_path / "out" / "logo.svg", REGIONS)
    assert (tmp_path / "out" / "logo.svg").read_bytes() == first
    colours = re.findall(rb"fill: (#\w{6})", first)
    assert {b"#009e73", b"#0072b2", b"#d55e00"} <= set(colours)


def test_a_region_of_ambiguous_letters_alone_is_drawn_empty(tmp_path):
    (tmp_path / "scored.vcf").write_text(HEADER)
    write_logo(tmp_path / "scored.vcf", tmp_path / "logo.svg", [Region("a", 0, 70)])
    assert (tmp_path / "logo.tsv").read_text().count("\n") == 1


def test_what_cannot_be_drawn_is_said_beforehand():
    with pytest.raises(InputError, match="a logo of 601 bases cannot be read"):
        check_logo("x.svg", [Region("a", 0, 600), Region("b", 0, 1)])
    with pytest.raises(InputError, match="is drawn as SVG"):
        check_logo("x.png", [Region("a", 0, 6)])
