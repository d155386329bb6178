"""The model as a whole: packing, causality, short and empty-handed inputs."""

import math

import pytest
import torch
from tiny_models import TINY, tiny_config, tiny_model

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.models.chunkers.spans import chunk_lengths, chunk_starts
from genotok.models.likelihood import next_token_log_likelihood

LENGTHS = torch.tensor([23, 1, 40, 2, 7])
every_kind = pytest.mark.parametrize("kind", TINY)


def some_ids(lengths=LENGTHS, seed=1):
    """A padded batch (B, L) whose places behind the end hold ids that must not matter."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 5, (len(lengths), int(lengths.max())), generator=random)


def trained(model):
    """The named parameters of a model without those of its entropy model."""
    return [(name, part) for name, part in model.named_parameters() if not name.startswith("entropy_model.")]


def alone(model, ids, lengths=LENGTHS):
    """The outputs of the sequences one by one."""
    return [
        model(row[None, :length], labels=row[None, :length]) for row, length in zip(ids, lengths, strict=True)
    ]


@every_kind
def test_packed_equals_one_by_one(kind):
    model, ids = tiny_model(kind), some_ids()
    output, singles = model(ids, lengths=LENGTHS), alone(model, ids)
    for row, (length, single) in enumerate(zip(LENGTHS, singles, strict=True)):
        torch.testing.assert_close(output.logits[row, :length], single.logits[0], atol=1e-5, rtol=1e-5)
        assert (output.logits[row, length:] == 0).all()
        for stage, one in zip(output.boundaries, single.boundaries, strict=True):
            rows = one.prob.shape[1]
            torch.testing.assert_close(stage.prob[row, :rows], one.prob[0], atol=1e-5, rtol=1e-5)
            assert torch.equal(stage.mask[row, :rows], one.mask[0])
            assert not stage.mask[row, rows:].any()
            assert (stage.prob[row, rows:] == 0).all()


@every_kind
def test_gradients_of_packed_equal_those_of_one_by_one(kind):
    model, ids = tiny_model(kind), some_ids()

    def weighted(outputs):
        """Every logit and every boundary probability with a weight of its own."""
        total = 0.0
        for output in outputs:
            parts = [output.logits, *(stage.prob for stage in output.boundaries)]
            total = total + sum((part * torch.sin(1 + 7 * part.detach())).sum() for part in parts)
        return torch.autograd.grad(total, [parameter for _, parameter in trained(model)])

    packed, single = weighted([model(ids, lengths=LENGTHS)]), weighted(alone(model, ids))
    for (name, parameter), found, wanted in zip(trained(model), packed, single, strict=True):
        assert wanted.norm() > 0, name
        # The gradient of a single number is a sum over all rows in which much cancels, but not the rounding.
        scale = max(wanted.norm().item(), float(parameter.ndim == 0))
        assert (found - wanted).norm() <= 1e-5 * scale, name


@every_kind
def test_the_order_of_a_batch_does_not_matter(kind):
    model, ids, turned = tiny_model(kind), some_ids(), torch.tensor([2, 0, 4, 1, 3])
    logits, moved = model(ids, lengths=LENGTHS).logits, model(ids[turned], lengths=LENGTHS[turned]).logits
    torch.testing.assert_close(moved, logits[turned], atol=1e-5, rtol=1e-5)


@every_kind
@pytest.mark.parametrize("place", [0, 1, 17, 38, 39])
def test_later_tokens_change_nothing_before_them(kind, place):
    model, ids = tiny_model(kind), some_ids(torch.tensor([40]))
    changed = ids.clone()
    changed[0, place] = (ids[0, place] + 1) % 4
    before, after = model(ids), model(changed)
    torch.testing.assert_close(after.logits[:, :place], before.logits[:, :place], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(after.logits[:, place:], before.logits[:, place:], atol=1e-3)
    for old, new in zip(before.boundaries[:1], after.boundaries[:1], strict=True):
        torch.testing.assert_close(new.prob[:, :place], old.prob[:, :place], atol=1e-5, rtol=1e-5)


@every_kind
@pytest.mark.parametrize("place", [0, 17])
def test_every_later_token_is_reached(kind, place):
    """The window of a stage limits its attention, not what flows through the main network and the states."""
    model, ids = tiny_model(kind), some_ids(torch.tensor([40]))
    embedded = model.embedding(ids[0]).detach().requires_grad_()
    model.embedding.forward = lambda _: embedded
    logits = model(ids).logits
    (gradient,) = torch.autograd.grad(logits[0, -1].square().sum(), embedded)
    assert gradient[place].abs().max() > 0


@every_kind
@pytest.mark.parametrize("length", [1, 2])
def test_short_sequences(kind, length):
    model, ids = tiny_model(kind), some_ids(torch.tensor([length, length]))
    output = model(ids, labels=ids)
    assert output.logits.shape == (2, length, model.config.vocab_size)
    assert output.logits.isfinite().all()
    for stage in output.boundaries:
        assert stage.mask[:, 0].all()
        assert (stage.prob[:, 0] == 1).all()
    if length == 1:
        assert output.loss == 0  # nothing is predicted
    else:
        wanted = -output.logits[:, 0].log_softmax(-1).gather(1, ids[:, 1:]).mean()
        torch.testing.assert_close(output.loss, wanted)
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@every_kind
def test_input_of_n_alone(kind):
    model = tiny_model(kind)
    ids = torch.full((2, 50), 4)
    output = model(ids, labels=ids.fill_(4).where(ids != 4, -100))
    assert output.logits.isfinite().all()
    assert output.loss == 0
    output = model(ids, labels=ids)
    output.loss.backward()
    assert all(parameter.grad.isfinite().all() for _, parameter in trained(model))


def test_loss_and_likelihood_count_the_same_tokens():
    model, ids = tiny_model("one stage"), some_ids()
    labels = ids.where(ids != 4, -100)
    for row, length in enumerate(LENGTHS):
        labels[row, length:] = -100
    likelihood, _ = next_token_log_likelihood(model, ids, labels, LENGTHS)
    logits = model(ids, lengths=LENGTHS).logits.detach()
    wanted = torch.zeros(ids.shape)
    for row, length in enumerate(LENGTHS):
        for t in range(1, length):
            if ids[row, t] != 4:
                wanted[row, t] = logits[row, t - 1].log_softmax(-1)[ids[row, t]]
    torch.testing.assert_close(likelihood, wanted)
    # The loss drops what lies behind the end by itself.
    loss = model(ids, labels=ids.where(ids != 4, -100), lengths=LENGTHS).loss
    torch.testing.assert_close(loss, -wanted.sum() / (wanted != 0).sum())


def test_loss_falls_out_of_the_logits_of_uniform_weights():
    model, ids = tiny_model("transformer"), some_ids(torch.tensor([20]))
    torch.nn.init.zeros_(model.head.weight)
    torch.testing.assert_close(model(ids, labels=ids).loss.item(), math.log(model.config.vocab_size))


@every_kind
def test_shapes_follow_the_input(kind):
    """Also where every sequence is shorter than the batch is wide."""
    model, lengths = tiny_model(kind), torch.tensor([3, 5])
    output = model(some_ids(torch.tensor([9, 9])), lengths=lengths, output_hidden_states=True)
    assert output.logits.shape == (2, 9, model.config.vocab_size)
    stages = model.config.stage_layout
    between = 0 if stages.inner else len(stages.encoder) - 1
    shape = (2, 9, model.config.d_model[0])
    assert [state.shape for state in output.hidden_states] == [shape] * (2 + between)
    assert len(output.boundaries) == model.config.stage_layout.depth - 1
    for s, stage in enumerate(output.boundaries):
        chunks = 9 if s == 0 else int(output.boundaries[s - 1].mask.sum(1).max())
        assert stage.prob.shape == stage.mask.shape == (2, chunks)
        assert stage.mask.dtype == torch.bool


def test_masked_tokens_are_predicted_from_both_sides():
    """The same weights, causal in one task and bidirectional in the other, also in a packed batch."""
    model, ids = tiny_model("transformer with biases"), some_ids()
    assert torch.equal(model(ids, lengths=LENGTHS).logits, model(ids, task="lm", lengths=LENGTHS).logits)
    logits = model(ids, task="mlm", lengths=LENGTHS).logits
    for row, length in enumerate(LENGTHS):
        single = model(ids[row : row + 1, :length], task="mlm").logits
        torch.testing.assert_close(logits[row, :length], single[0], atol=1e-5, rtol=1e-5)
    changed = ids.clone()
    changed[2, 39] = (ids[2, 39] + 1) % 4
    moved = model(changed, task="mlm", lengths=LENGTHS).logits - logits
    assert (moved[2].abs().amax(-1) > 1e-5).all()
    assert (moved[[0, 1, 3, 4]] == 0).all()


def test_hidden_states_lead_to_the_logits():
    model, ids = tiny_model("two stages that widen"), some_ids()
    output = model(ids, lengths=LENGTHS, output_hidden_states=True)
    embedded, last = output.hidden_states
    assert torch.equal(embedded[0, :23], model.embedding(ids[0, :23]))
    torch.testing.assert_close(model.head(last[2]), output.logits[2], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"input_ids": torch.zeros(5, dtype=torch.long)}, "input_ids must be (batch, length)"),
        (
            {"input_ids": torch.zeros(2, 0, dtype=torch.long)},
            "input_ids must be (batch, length), both at least 1",
        ),
        ({"lengths": torch.tensor([3])}, "lengths must hold 2 values from 1 to 4, not [3]"),
        ({"lengths": torch.tensor([3, 5])}, "lengths must hold 2 values from 1 to 4, not [3, 5]"),
        ({"lengths": torch.tensor([-1, 4])}, "lengths must hold 2 values from 1 to 4, not [-1, 4]"),
        ({"lengths": torch.tensor([-1, 4])}, "lengths must hold 2 values from 1 to 4"),
        ({"lengths": torch.tensor([], dtype=torch.long)}, "lengths must hold 2 values from 1 to 4"),
        ({"task": "mlm"}, "task 'mlm' is unknown"),
    ],
)
def test_input_that_does_not_fit_is_said(arguments, sentence):
    model = tiny_model("one stage")
    with pytest.raises(InputError) as error:
        model(**({"input_ids": torch.zeros(2, 4, dtype=torch.long)} | arguments))
    assert str(error.value).startswith(sentence)


def test_initial_weights_are_those_of_the_seed():
    torch.manual_seed(3)
    first = GenomicLM(tiny_config("two stages that widen"))
    torch.manual_seed(3)
    second = GenomicLM(tiny_config("two stages that widen"))
    assert first.content_hash() == second.content_hash()
    assert first.content_hash() != GenomicLM(tiny_config("two stages that widen")).content_hash()


def test_initial_weights_are_hnets():
    """N(0, 0.02), outputs scaled down by the writes to the residual stream so far, identities and zeros."""
    torch.manual_seed(0)
    wide = {"d_model": [128, 128, 128], "d_intermediate": 256, "mamba2": {"head_dim": 32}}
    attention = {"heads": 4, "rotary_dim": 8, "window": -1}
    model = GenomicLM(tiny_config("two stages that widen", attention=attention, **wide))
    outer, inner = model.backbone, model.backbone.inner
    for weight, std in [
        (model.embedding.weight, 1.0),
        (model.head.weight, 0.02),
        (outer.encoder.blocks[0].mixer.in_proj.weight, 0.02),
        (outer.encoder.blocks[0].mixer.out.weight, 0.02 / math.sqrt(1 + 2)),
        (outer.decoder.blocks[0].mlp.out.weight, 0.02 / math.sqrt(1 + 2)),
        (inner.encoder.blocks[0].mixer.out.weight, 0.02 / math.sqrt(3 + 4)),
        (inner.inner.encoder.blocks[0].mlp.out.weight, 0.02 / math.sqrt(3 + 4 + 2)),
        (inner.inner.encoder.blocks[0].mlp.value_gate.weight, 0.02),
    ]:
        assert weight.std().item() == pytest.approx(std, rel=0.05)
    for stage in (outer, inner):
        assert torch.equal(stage.chunker.query.weight, torch.eye(128))
        assert torch.equal(stage.chunker.key.weight, torch.eye(128))
        assert not stage.skip.weight.any()


def test_bfloat16_autocast_stays_near_float32():
    model, ids = tiny_model("one stage"), some_ids()
    exact = model(ids, lengths=LENGTHS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(ids, lengths=LENGTHS)
    assert rough.boundaries[0].prob.dtype == torch.float32
    assert (rough.boundaries[0].prob - exact.boundaries[0].prob).abs().max() < 0.05
    rough.logits.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_chunks_on_the_tokens():
    model, ids = tiny_model("two stages that widen"), some_ids()
    output = model(ids, lengths=LENGTHS)
    stages = output.packed_boundaries
    starts, token = [[], []], 0
    for row, length in enumerate(LENGTHS.tolist()):
        outer = [t for t in range(length) if output.boundaries[0].mask[row, t]]
        starts[0] += [token + t for t in outer]
        starts[1] += [token + t for chunk, t in enumerate(outer) if output.boundaries[1].mask[row, chunk]]
        token += length
    assert [stage.tolist() for stage in chunk_starts(stages)] == starts
    for lengths, begins in zip(chunk_lengths(stages), starts, strict=True):
        ends = [*begins[1:], token]
        assert lengths.tolist() == [end - begin for begin, end in zip(begins, ends, strict=True)]
    for lengths in chunk_lengths(stages, start_tokens=1):
        assert lengths.sum() == token - len(LENGTHS)
        assert lengths.min() > 0
