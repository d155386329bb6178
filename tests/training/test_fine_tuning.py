"""Which weights learn: frozen parts and low-rank adapters."""

import json

import pytest
import torch
from safetensors.torch import load_file
from toy_runs import TOY_MODEL, TOY_SETTINGS, results, toy_config, train
from typer.testing import CliRunner

from genotok.cli import app
from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.training.config import LoraConfig
from genotok.training.loop import Trainer
from genotok.training.lora import add_adapters, merged

LORA = LoraConfig(rank=3, alpha=6.0, targets=["*.in_proj", "backbone.inner.*"])
ADAPTED = {"backbone.encoder.blocks.0.mixer.in_proj", "backbone.decoder.blocks.0.mixer.in_proj"}


@pytest.fixture(scope="module")
def trained(toy_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(toy_shards, folder, steps=3)
    return folder


def of(folder):
    return load_file(folder / "model.safetensors")


def changed(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_frozen_parts_stay(trained, toy_shards, tmp_path):
    patterns = ["embedding.*", "backbone.encoder.*", "*.chunker.query.weight"]
    train(toy_shards, tmp_path / "run", steps=3, freeze=patterns, model=None, init=str(trained))
    before, after = of(trained), of(tmp_path / "run")
    frozen = {n for n in before if n.startswith(("embedding.", "backbone.encoder.")) or "chunker.query" in n}
    assert len(frozen) > 8
    assert changed(before, after) == before.keys() - frozen


def test_a_pattern_without_weights_is_said(toy_shards, tmp_path):
    with pytest.raises(
        InputError, match=r"freeze: no weight has a name like 'encoder\.\*'; names are such as embedding"
    ):
        Trainer(toy_config(toy_shards, freeze=["encoder.*"]), tmp_path)
    with pytest.raises(
        InputError, match=r"lora\.targets: no linear layer of the backbone has a name like 'heads\.\*'"
    ):
        Trainer(toy_config(toy_shards, lora=LoraConfig(targets=["heads.*"])), tmp_path)
    with pytest.raises(InputError, match="every parameter of the model is frozen"):
        Trainer(toy_config(toy_shards, freeze=["*"]), tmp_path)


def adapted_model():
    torch.manual_seed(3)
    model = GenomicLM(ModelConfig.from_dict(TOY_MODEL))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = torch.randint(0, 4, (2, 40))
    logits = model(ids).logits.detach()
    add_adapters(model, LORA, heads_learn=False)
    return model, before, ids, logits


def test_adapters_are_zero_at_the_start_and_only_they_learn():
    model, before, ids, logits = adapted_model()
    assert torch.equal(model(ids).logits, logits)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning
    assert {name.rsplit(".", 1)[1] for name in learning} == {"down", "up"}
    assert {name.split(".parametrizations")[0] for name in learning} > ADAPTED
    assert (
        model.get_submodule("backbone.encoder.blocks.0.mixer.in_proj")
        .parametrizations.weight[0]
        .down.shape[0]
        == 3
    )
    assert all(torch.equal(value, before[name]) for name, value in merged(model.state_dict(), LORA).items())


def test_merged_weights_give_the_adapted_outputs():
    model, before, ids, logits = adapted_model()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.05)
    plain = GenomicLM(model.config)
    plain.load_state_dict(merged(model.state_dict(), LORA))
    adapted = model(ids).logits
    assert (adapted - logits).abs().max() > 1e-3
    torch.testing.assert_close(plain(ids).logits, adapted, atol=1e-5, rtol=1e-5)
    name = "backbone.encoder.blocks.0.mixer.in_proj"
    part = model.get_submodule(name).parametrizations.weight[0]
    torch.testing.assert_close(
        plain.state_dict()[f"{name}.weight"], before[f"{name}.weight"] + 2 * part.up @ part.down
    )


def test_a_run_with_adapters_goes_on_and_leaves_a_plain_model(trained, toy_shards, tmp_path):
    settings = {
        "model": None,
        "init": str(trained),
        "lora": LORA,
        "steps": 6,
        "checkpoint_every": 3,
        "ema_decay": 0.5,
    }
    train(toy_shards, tmp_path / "whole", **settings)
    trainer = Trainer(toy_config(toy_shards, **settings), tmp_path / "cut")
    save, trainer.save_checkpoint = trainer.save_checkpoint, None
    trainer.save_checkpoint = lambda metrics: (save(metrics), (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert trainer.step == 3
    train(toy_shards, tmp_path / "cut", resume=True, **settings)
    assert results(tmp_path / "cut") == results(tmp_path / "whole")
    before, after = of(trained), of(tmp_path / "whole")
    linear = {
        name
        for name in before
        if name.removesuffix(".weight") in ADAPTED or name.startswith("backbone.inner.")
    }
    learned = changed(before, after)
    assert {f"{name}.weight" for name in ADAPTED} < learned <= linear
    GenomicLM.from_pretrained(tmp_path / "whole")


def test_lora_by_the_command_line(trained, toy_shards, tmp_path):
    """Heads learn beside the adapters."""
    (tmp_path / "t.csv").write_text("sequence,y\n" + "GATTACA,1\nACGTT,0\n" * 3)
    config = {key: TOY_SETTINGS[key] for key in ("learning_rate", "threads", "log_every")} | {
        "table": {"train": str(tmp_path / "t.csv"), "labels": {"y": "y"}},
        "init": str(trained),
        "model": {"heads": {"y": {"kind": "classification", "outputs": 2}}},
        "lora": {"rank": 2, "targets": ["backbone.inner.*"]},
        "steps": 2,
        "batch_size": 2,
    }
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    done = CliRunner().invoke(app, ["train", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    before, after = of(trained), of(tmp_path / "run")
    heads = {name for name in after if name.startswith("heads.")}
    assert len(heads) == 2
    learned = changed(before, {name: value for name, value in after.items() if name not in heads})
    assert learned
    assert all(name.startswith("backbone.inner.") for name in learned)
