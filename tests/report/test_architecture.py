"""Pictures of architectures."""

import re

import pytest

from genotok.errors import InputError
from genotok.models import ModelConfig
from genotok.report.architecture import save_architecture


@pytest.mark.parametrize("preset", ["hnet_2stage_dna", "hyena_glt_small", "ntv2_50m"])
def test_pictures_are_the_same_every_time(preset, tmp_path):
    config = ModelConfig.preset(preset)
    for name in ("one.svg", "two.svg"):
        save_architecture(config, preset, tmp_path / name)
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    # A box for the embedding, one for the head, one for the main network, and two for each stage around it.
    boxes = len(re.findall(r'id="patch_\d+"', text)) - 1
    assert boxes >= 3 + 2 * (config.stage_layout.depth - 1)


def test_only_svg(tmp_path):
    with pytest.raises(InputError, match=r"is written as \.svg"):
        save_architecture(ModelConfig.preset("ntv2_50m"), "x", tmp_path / "x.png")
