"""Heads for classes and numbers: losses against slow formulas, pooling, gradients, and what is refused."""

import copy
import math

import pytest
import torch
from tiny_models import ONE_STAGE, tiny_config, tiny_model

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.models.cost import model_cost
from genotok.models.prediction_heads import HeadConfig, prediction_loss

START, PAD, N = 10, 5, 4
HEADS = {
    "kinds": {"kind": "classification", "outputs": 3, "hidden": 8},
    "marks": {"kind": "multi_label", "outputs": 2, "pool": "last"},
    "strength": {"kind": "regression", "outputs": 1, "pool": "attention", "weight": 0.5},
    "exon": {"kind": "classification", "outputs": 2, "per": "nucleotide"},
    "depth": {"kind": "regression", "outputs": 2, "per": "nucleotide"},
}
LENGTHS = torch.tensor([9, 4, 12])
NAN = math.nan


def model_with(heads=HEADS, kind="one stage", **changes) -> GenomicLM:
    return tiny_model(kind, **({"tasks": ["lm", "prediction"], "heads": copy.deepcopy(heads)} | changes))


def batch_of(lengths=LENGTHS, seed=1):
    """START, nucleotides with an N here and there, and rubbish behind the end."""
    ids = torch.randint(
        0, 5, (len(lengths), int(lengths.max())), generator=torch.Generator().manual_seed(seed)
    )
    ids[:, 0] = START
    return ids


def some_labels(ids):
    random = torch.Generator().manual_seed(2)
    batch, length = ids.shape
    labels = {
        "kinds": torch.tensor([2, -100, 0]),
        "marks": torch.tensor([[1.0, NAN], [0.0, 1.0], [NAN, 0.0]]),
        "strength": torch.tensor([0.7, NAN, -3.0]),
        "exon": torch.randint(0, 2, (batch, length), generator=random),
        "depth": torch.randn(batch, length, 2, generator=random),
    }
    labels["exon"][0, 3] = -100
    labels["depth"][2, 5, 1] = NAN
    return labels


def test_losses_by_hand():
    """Each loss from the predictions, one label after the other."""
    model, ids = model_with(), batch_of()
    labels = some_labels(ids)
    output = model(ids, task="prediction", labels=labels, lengths=LENGTHS)
    found = {name: value.detach() for name, value in output.predictions.items()}
    assert output.logits is None
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "kinds": (3, 3),
        "marks": (3, 2),
        "strength": (3, 1),
        "exon": (3, 12, 2),
        "depth": (3, 12, 2),
    }

    def nats(logits, answer):
        return -math.log(math.exp(logits[answer]) / sum(math.exp(x) for x in logits.tolist()))

    def yes_no(logit, answer):
        yes = 1 / (1 + math.exp(-logit))
        return -math.log(yes if answer else 1 - yes)

    kinds = [nats(found["kinds"][0], 2), nats(found["kinds"][2], 0)]
    marks = [(0, 0, 1), (1, 0, 0), (1, 1, 1), (2, 1, 0)]
    marks = [yes_no(found["marks"][b, n].item(), y) for b, n, y in marks]
    strength = [(found["strength"][b, 0].item() - y) ** 2 for b, y in ((0, 0.7), (2, -3.0))]
    exon, depth = [], []
    for b, length in enumerate(LENGTHS.tolist()):
        for t in range(length):
            if (b, t) != (0, 3):
                exon.append(nats(found["exon"][b, t], labels["exon"][b, t].item()))
            numbers = [n for n in range(2) if (b, t, n) != (2, 5, 1)]
            depth += [(found["depth"][b, t, n] - labels["depth"][b, t, n]).item() ** 2 for n in numbers]
    wanted = {"kinds": kinds, "marks": marks, "strength": strength, "exon": exon, "depth": depth}
    wanted = {name: sum(values) / len(values) for name, values in wanted.items()}
    assert {name: loss.item() for name, loss in output.losses.items()} == pytest.approx(wanted, rel=1e-5)
    total = sum(loss * (0.5 if name == "strength" else 1.0) for name, loss in wanted.items())
    assert output.loss.item() == pytest.approx(total, rel=1e-5)


def test_label_smoothing_acts_in_training_alone():
    """Against torch's own formula for classes; yes and no are drawn towards one half."""
    heads = {
        "kinds": {"kind": "classification", "outputs": 3, "label_smoothing": 0.2},
        "marks": {"kind": "multi_label", "outputs": 2, "label_smoothing": 0.2},
    }
    model, ids = model_with(heads), batch_of()
    labels = {"kinds": torch.tensor([2, -100, 0]), "marks": torch.tensor([[1.0, 0.0]] * 3)}
    plain = model(ids, task="prediction", labels=labels, lengths=LENGTHS)
    smooth = model.train()(ids, task="prediction", labels=labels, lengths=LENGTHS)
    log_p = plain.predictions["kinds"].log_softmax(-1)
    wanted = -(0.8 * log_p[0, 2] + 0.2 * log_p[0].mean() + 0.8 * log_p[2, 0] + 0.2 * log_p[2].mean()) / 2
    torch.testing.assert_close(smooth.losses["kinds"], wanted)
    torch.testing.assert_close(plain.losses["kinds"], -(log_p[0, 2] + log_p[2, 0]) / 2)
    yes = plain.predictions["marks"].sigmoid()
    soft = torch.tensor([0.9, 0.1])
    wanted = -(soft * yes.log() + (1 - soft) * (1 - yes).log()).mean()
    torch.testing.assert_close(smooth.losses["marks"], wanted)


@pytest.mark.parametrize("task", ["lm", "mlm"])
def test_label_smoothing_of_tokens(task):
    model, ids = tiny_model("transformer with biases"), batch_of()
    loss = model(ids, task=task, labels=ids, lengths=LENGTHS, label_smoothing=0.1).losses[task]
    log_p = model(ids, task=task, lengths=LENGTHS).logits.log_softmax(-1)
    behind = int(task == "lm")
    terms = [
        -(0.9 * log_p[b, t - behind, ids[b, t]] + 0.1 * log_p[b, t - behind].mean()).item()
        for b, length in enumerate(LENGTHS.tolist())
        for t in range(behind, length)
    ]
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


@pytest.mark.parametrize(
    "kind", ["one stage", "two stages that widen", "transformer", "merged and static chunks"]
)
def test_packed_equals_alone(kind):
    model, ids = model_with(kind=kind), batch_of()
    together = model(ids, task="prediction", lengths=LENGTHS).predictions
    for row, length in enumerate(LENGTHS.tolist()):
        single = model(ids[row : row + 1, :length], task="prediction").predictions
        for name, found in together.items():
            if HEADS[name].get("per") == "nucleotide":
                torch.testing.assert_close(found[row, :length], single[name][0], atol=1e-5, rtol=1e-5)
                assert (found[row, length:] == 0).all()
            else:
                torch.testing.assert_close(found[row], single[name][0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "last", "attention"])
def test_pooling_is_over_certain_nucleotides(pool):
    """The states of START, N, PAD and other specials do not matter, those of nucleotides do."""
    model = model_with({"x": {"kind": "regression", "outputs": 2, "pool": pool}})
    head, width = model.heads["x"], model.config.d_model[0]
    ids = torch.tensor([[START, 0, 3, N, 1, N, 6, PAD, 13]])
    states = torch.randn(9, width, generator=torch.Generator().manual_seed(0))
    model.backbone.forward = lambda *_: (states, [])
    found = model(ids, task="prediction").predictions["x"][0]
    taken = states[[1, 2, 4]]
    weights = {
        "mean": torch.full((3,), 1 / 3),
        "last": torch.tensor([0.0, 0.0, 1.0]),
        "attention": None if head.query is None else (taken @ head.query.weight[0]).softmax(0),
    }[pool]
    torch.testing.assert_close(found, head.out(weights @ taken), atol=1e-5, rtol=1e-5)


def test_a_sequence_without_a_certain_nucleotide():
    model = model_with()
    ids = torch.tensor([[START, N, N, N], [START, 0, 1, 2]])
    labels = {"strength": torch.tensor([1.0, 2.0]), "kinds": torch.tensor([1, 1])}
    output = model(ids, task="prediction", labels=labels)
    torch.testing.assert_close(output.predictions["strength"][0], model.heads["strength"].out.bias)
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", HEADS)
def test_the_gradient_reaches_the_head_and_the_model(name):
    model, ids = model_with(), batch_of()
    labels = {name: some_labels(ids)[name]}
    model(ids, task="prediction", labels=labels, lengths=LENGTHS).loss.backward()
    for key, parameter in model.named_parameters():
        reached = key.startswith(f"heads.{name}.") or not key.startswith(("head.", "heads."))
        found = 0.0 if parameter.grad is None else parameter.grad.norm().item()
        assert (found > 0) == reached, key


def test_nothing_known_is_no_loss():
    model, ids = model_with(), batch_of()
    labels = {
        "kinds": torch.full((3,), -100),
        "marks": torch.full((3, 2), NAN),
        "depth": torch.full((3, 12, 2), NAN),
    }
    output = model(ids, task="prediction", labels=labels)
    assert output.loss == 0
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_two_tasks_share_a_pass():
    model, ids = model_with(task_weights={"lm": 0.25}), batch_of()
    labels = {"lm": ids.where(ids < 4, -100), "kinds": torch.tensor([0, 1, 2])}
    passes = []
    model.backbone.register_forward_hook(lambda *_: passes.append(1))
    both = model(ids, task=["lm", "prediction"], labels=labels, lengths=LENGTHS)
    assert len(passes) == 1
    tokens = model(ids, task="lm", labels=labels["lm"], lengths=LENGTHS)
    classes = model(ids, task="prediction", labels={"kinds": labels["kinds"]}, lengths=LENGTHS)
    assert torch.equal(both.logits, tokens.logits)
    assert torch.equal(both.predictions["kinds"], classes.predictions["kinds"])
    assert both.losses == {"lm": tokens.losses["lm"], "kinds": classes.losses["kinds"]}
    torch.testing.assert_close(both.loss, 0.25 * tokens.losses["lm"] + classes.loss)
    torch.testing.assert_close(tokens.loss, 0.25 * tokens.losses["lm"])


def test_no_labels_no_losses():
    output = model_with()(batch_of(), task="prediction", labels={})
    assert output.loss is None
    assert output.losses == {}


BOTH = {"kind": "transformer", "heads": {"kinds": HEADS["kinds"]}}


def last_matters(model):
    """Whether the first token's prediction sees the last token."""
    ids = batch_of(torch.tensor([9]))
    changed = ids.clone()
    changed[0, -1] = (ids[0, -1] + 1) % 4
    before, after = (model(x, task="prediction").predictions["exon"][0, 0] for x in (ids, changed))
    return not torch.equal(before, after)


@pytest.mark.parametrize(
    ("tasks", "direction", "sees"),
    [
        (["lm", "prediction"], None, False),
        (["lm", "prediction"], "bidirectional", True),
        (["mlm", "prediction"], None, True),
        (["prediction", "lm", "mlm"], None, True),
        (["lm", "mlm", "prediction"], "causal", False),
        (["prediction"], None, False),
    ],
)
def test_the_direction_of_predictions(tasks, direction, sees):
    heads = {"exon": HEADS["exon"]}
    model = model_with(heads, "transformer", tasks=tasks, prediction_direction=direction)
    assert last_matters(model) == sees


def test_tasks_of_two_directions_are_refused():
    model = model_with(**BOTH, tasks=["lm", "mlm", "prediction"])
    ids = batch_of()
    for tasks in (["lm", "prediction"], ["lm", "mlm"], []):
        with pytest.raises(InputError, match="do not read in one direction; run the model once for each"):
            model(ids, task=tasks)
    assert model(ids, task=["mlm", "prediction"]).predictions["kinds"].shape == (3, 3)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (torch.tensor([0, 1, 2]), "labels: should be given by name, of kinds, marks, strength, exon, depth"),
        ({"kind": torch.tensor([0, 1, 2])}, "labels.kind: unknown name; known are kinds, marks"),
        ({"lm": batch_of()}, "labels.lm: unknown name"),
        ({"kinds": torch.tensor([0, 1, 3])}, "labels.kinds: 3 is no class from 0 to 2; -100 stands for"),
        ({"kinds": torch.tensor([0, 1, -1])}, "labels.kinds: -1 is no class"),
        ({"kinds": torch.tensor([0, 1])}, "labels.kinds: should be whole numbers of the shape (3,)"),
        (
            {"kinds": torch.zeros(3)},
            "labels.kinds: should be whole numbers of the shape (3,), not torch.float32",
        ),
        ({"marks": torch.zeros(3)}, "labels.marks: should be of the shape (3, 2), not (3,)"),
        ({"exon": torch.zeros(3, 9).long()}, "labels.exon: should be whole numbers of the shape (3, 12)"),
    ],
)
def test_labels_that_do_not_fit_are_said(labels, sentence):
    with pytest.raises(InputError) as error:
        model_with()(batch_of(), task="prediction", labels=labels)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ({}, "heads.x.kind: this key is needed"),
        ({"kind": "ranking", "outputs": 2}, "heads.x.kind: 'ranking' should be 'classification' or"),
        ({"kind": "regression"}, "heads.x.outputs: 0 should be a whole number, at least 1"),
        ({"kind": "regression", "outputs": True}, "heads.x.outputs: True should be a whole number"),
        ({"kind": "classification", "outputs": 1}, "heads.x.outputs: a classification has at least 2"),
        (
            {"kind": "regression", "outputs": 1, "per": "codon"},
            "heads.x.per: 'codon' should be 'sequence' or",
        ),
        ({"kind": "regression", "outputs": 1, "pool": "max"}, "heads.x.pool: 'max' should be 'mean' or"),
        (
            {"kind": "regression", "outputs": 1, "weight": 0},
            "heads.x.weight: 0 should be a number, more than 0",
        ),
        ({"kind": "regression", "outputs": 1, "hidden": -1}, "heads.x.hidden: -1 should be a whole number"),
        ({"kind": "regression", "outputs": 1, "dropout": 1}, "heads.x.dropout: 1 should be a number from 0"),
        (
            {"kind": "regression", "outputs": 1, "label_smoothing": 0.1},
            "heads.x.label_smoothing: a regression",
        ),
        ({"kind": "regression", "outputs": 1, "classes": ["a"]}, "heads.x.classes: only a classification"),
        (
            {"kind": "classification", "classes": ["a", "a"]},
            "heads.x.classes: ['a', 'a'] should be different",
        ),
        ({"kind": "classification", "classes": "ab"}, "heads.x.classes: 'ab' should be a list of names"),
        ({"kind": "classification", "outputs": 3, "classes": ["a", "b"]}, "heads.x.outputs: 3 for 2 classes"),
        (
            {"kind": "classification", "outputs": 3, "width": 8},
            "heads.x.width: unknown key; known are class_weights",
        ),
        (3, "heads.x: 3 should be an object with keys"),
    ],
)
def test_heads_that_do_not_fit_are_said(head, sentence):
    with pytest.raises(InputError) as error:
        tiny_config("one stage", tasks=["prediction"], heads={"x": head})
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize("name", ["lm", "a.b", "", "values", "1st", 3])
def test_names_that_cannot_be(name):
    head = {"kind": "regression", "outputs": 1}
    with pytest.raises(InputError, match=r"^heads: "):
        tiny_config("one stage", tasks=["prediction"], heads={name: head})


@pytest.mark.parametrize("changes", [{"heads": {}}, {"tasks": ["lm"]}, {"heads": ["kinds"]}])
def test_heads_and_their_task_come_together(changes):
    values = {"tasks": ["prediction"], "heads": {"kinds": HEADS["kinds"]}} | changes
    with pytest.raises(InputError, match=r"^heads: "):
        tiny_config("one stage", **values)


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_what_a_prediction_sees(direction):
    heads = {"places": {"kind": "regression", "outputs": 1, "per": "nucleotide"}}
    model = tiny_model("one stage", tasks=["prediction"], heads=heads, prediction_direction=direction)
    ids = torch.zeros(1, 20, dtype=torch.long)
    changed = ids.clone()
    changed[0, 15] = 2
    before, after = (model(x, task="prediction").predictions["places"][0, :15] for x in (ids, changed))
    assert torch.allclose(before, after, atol=1e-5) == (direction == "causal")


def test_saved_and_read_again(tmp_path):
    model, ids = model_with(), batch_of()
    model.save_pretrained(tmp_path)
    again = GenomicLM.from_pretrained(tmp_path)
    assert again.config == model.config
    assert again.content_hash() == model.content_hash()
    before, after = (m(ids, task="prediction").predictions for m in (model, again))
    for name in HEADS:
        torch.testing.assert_close(before[name], after[name], atol=1e-6, rtol=1e-6)


def test_a_model_without_heads_keeps_its_configuration():
    keys = ModelConfig.from_dict(copy.deepcopy(ONE_STAGE)).to_dict().keys()
    assert not {"heads", "prediction_direction", "task_weights"} & keys
    heads = {"kinds": {"kind": "classification", "classes": ["no", "yes"]}}
    written = tiny_config("transformer", tasks=["prediction"], heads=heads).to_dict()
    assert written["heads"]["kinds"]["outputs"] == 2
    assert ModelConfig.from_dict(written).to_dict() == written


def test_the_cost_counts_heads():
    heads = {"kinds": HEADS["kinds"], "exon": HEADS["exon"]}
    plain = model_cost(tiny_config("transformer"), 100, [])
    config = tiny_config("transformer", tasks=["lm", "prediction"], heads=copy.deepcopy(heads))
    cost = model_cost(config, 100, [])
    assert cost.parameters - plain.parameters == (16 * 8 + 8 + 8 * 3 + 3) + (16 * 2 + 2)
    assert cost.flops.linear - plain.flops.linear == 2 * (16 * 8 + 8 * 3) + 2 * 100 * 16 * 2


def test_bfloat16_autocast_pools_in_float32():
    model, ids = model_with(), batch_of()
    exact = model(ids, task="prediction", lengths=LENGTHS).predictions
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(ids, task="prediction", lengths=LENGTHS).predictions
    for name, found in rough.items():
        assert found.dtype == torch.float32
        assert (found - exact[name]).abs().max() < 0.1


def test_the_loss_of_a_head_of_another_size_is_a_mean_over_labels_not_rows():
    """One known answer of four weighs as much as four."""
    config = HeadConfig("multi_label", 2)
    predictions, labels = torch.tensor([[0.0, 5.0], [3.0, 3.0]]), torch.tensor([[1.0, NAN], [NAN, NAN]])
    assert prediction_loss(config, predictions, labels).item() == pytest.approx(math.log(2))
