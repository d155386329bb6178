"""What `compile` captures: once for every width, whatever the number of rows, and without a gap."""

import pytest
import torch
from toy_runs import TOY_MODEL

from genotok.models import GenomicLM, ModelConfig
from genotok.training import block_execution
from genotok.training.block_execution import run_blocks

MODEL = {
    **TOY_MODEL,
    "layout": ["m1T1", ["T2m1M1"], "m1"],
    "d_intermediate": [24, 32],
    "d_model": [16, 32],
}
WIDTHS = 2


@pytest.mark.parametrize("capacity", [(), (0.9,)], ids=["exact", "room for chunks"])
@pytest.mark.parametrize("mlp", ["swiglu", "gelu"])
def test_ragged_lengths_are_compiled_once(mlp, capacity, monkeypatch, capsys):
    """`aot_eager` in place of the code generator, which takes its time; graphs are captured as for that."""
    torch._dynamo.reset()
    counters, compiled = torch._dynamo.utils.counters, torch.compile
    monkeypatch.setattr(block_execution._Compiled, "possible", True)
    monkeypatch.setattr(
        torch, "compile", lambda function, dynamic: compiled(function, dynamic=dynamic, backend="aot_eager")
    )
    torch.manual_seed(0)
    norm = "rms" if mlp == "swiglu" else "layer"
    model = GenomicLM(ModelConfig.from_dict({**MODEL, "mlp": mlp, "norm": norm}))
    plain = GenomicLM(model.config)
    plain.load_state_dict(model.state_dict())
    run_blocks(model, "none", True)
    counters.clear()
    for step in range(6):
        lengths = torch.randint(5, 60, (4,)) if step else torch.tensor([40] * 4)
        ids = torch.randint(4, 8, (4, int(lengths.max())))
        losses = []
        for each in (model, plain):
            each.zero_grad()
            losses.append(each(ids, labels=ids, lengths=lengths, chunk_capacity=capacity).loss)
            losses[-1].backward()
        assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
        for (name, found), wanted in zip(model.named_parameters(), plain.parameters(), strict=True):
            if wanted.grad is not None:
                torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-3, atol=1e-5, msg=name)
        assert counters["stats"]["unique_graphs"] == WIDTHS
    assert not counters["graph_break"]
    assert capsys.readouterr().err == ""
