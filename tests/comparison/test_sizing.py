"""Models of equal cost, by the formulas and by torch's own counter."""

import pytest
import torch
from small_comparison import ARMS, settings_of
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from genotok.comparison.arms import Cuts, find_arm
from genotok.comparison.plan import counted_config, make_plan, realised_flops
from genotok.comparison.sizing import Budget, entropy_model, flops_per_base, outer_width, solve, tokens_of
from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.models.cost import training_flops
from genotok.models.token_losses import next_token_loss

KMERS = Cuts({"type": "kmer", "k": 6}, 6.0)
CUTS = {
    "transformer": Cuts(),
    "mamba2": Cuts(),
    "kmer_6": KMERS,
    "static_3": Cuts(rows=[3.0]),
    "static_6": Cuts(rows=[6.0]),
    "merge": Cuts(rows=[4.0]),
    "hnet_1stage": Cuts(rows=[4.0]),
    "hnet_2stage": Cuts(rows=[3.0, 2.0]),
}


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize(
    ("flops", "window"), [(1e6, 512), (6e6, 1008), (3e7, 1008), (1e8, 2048), (1e9, 8192)]
)
def test_every_arm_costs_the_budget(name, flops, window):
    cuts = CUTS[name]
    config = solve(find_arm(name), cuts, Budget(flops, window))
    found = training_flops(config, 1 + round(window / cuts.letters), cuts.rows) / window
    assert found == pytest.approx(flops, rel=0.03)
    assert flops_per_base(config, window, cuts.letters, cuts.rows) == found
    assert config.d_model == sorted(config.d_model)


@pytest.mark.parametrize("flops", [3e6, 3e7])
def test_the_entropy_model_is_paid_for(flops):
    """Its training (forward and backward) and its use (forward), and the model around it has what is left."""
    budget, cuts = Budget(flops, 1008, entropy_share=0.25), Cuts(rows=[4.0])
    entropy = entropy_model(budget)
    config = solve(find_arm("entropy"), cuts, budget, entropy)
    alone = training_flops(ModelConfig.from_dict(entropy), 1009, []) / 1008
    without = ModelConfig.from_dict({**config.to_dict(), "chunkers": [{"kind": "static", "length": 4}]})
    around = training_flops(without, 1009, [4.0]) / 1008
    assert alone * 4 / 3 <= 0.25 * flops
    assert around + alone + alone / 3 == pytest.approx(flops, rel=0.03)


def test_outer_stages_are_the_same_and_keep_to_their_share():
    budget = Budget(3e7, 1008, outer_share=0.3)
    width = outer_width(budget)
    configs = [solve(find_arm(name), CUTS[name], budget) for name in ("static_3", "merge", "hnet_2stage")]
    assert {config.d_model[0] for config in configs} == {width}
    assert outer_width(Budget(3e7, 1008, outer_share=0.6)) > width


@pytest.mark.parametrize("name", ["transformer", "kmer_6"])
def test_torch_counts_the_same_for_a_step(name):
    """Forward and backward; torch counts products alone, and the first layer needs no gradient of its input."""
    cuts, window = CUTS[name], 510
    config = solve(find_arm(name), cuts, Budget(2e6, window))
    torch.manual_seed(0)
    model, tokens = GenomicLM(config), tokens_of(window, cuts.letters)
    ids = torch.randint(0, 4, (1, tokens))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        logits = model(ids).logits
        next_token_loss(logits, ids, torch.tensor([tokens])).backward()
    assert counter.get_total_flops() / window == pytest.approx(2e6, rel=0.08)


def test_realised_cost_follows_the_chunks(plan):
    """Twice as many chunks as were expected cost more; as many cost what the plan says."""
    arm = plan["arms"]["hnet_1stage"]
    assert realised_flops(plan, "hnet_1stage", [1 / 4]) == pytest.approx(arm["flops_per_base"])
    config = counted_config(arm)
    wanted = training_flops(config, plan["window"] + 1, [2.0]) / plan["window"]
    assert realised_flops(plan, "hnet_1stage", [0.5]) == pytest.approx(wanted)
    assert wanted > 1.3 * arm["flops_per_base"]


def test_a_pilot_resizes_an_arm(folder, plan):
    rows = {"hnet_1stage": [2.0]}
    again = make_plan(settings_of(folder, arms=["transformer", "hnet_1stage"], expected_rows=rows))
    arm = again["arms"]["hnet_1stage"]
    assert abs(arm["deviation"]) <= 0.03
    assert arm["parameters"] < plan["arms"]["hnet_1stage"]["parameters"]
    assert arm["rows"] == [4.0]  # what it is steered to stays
    with pytest.raises(InputError, match="should hold 1 numbers, each at least 1"):
        make_plan(settings_of(folder, expected_rows={"hnet_1stage": [2.0, 3.0]}))


def test_budgets_that_no_size_fits():
    with pytest.raises(InputError, match="are no size of 'transformer'"):
        solve(find_arm("transformer"), Cuts(), Budget(2e4, 512))
    with pytest.raises(InputError, match="too few for an encoder"):
        solve(find_arm("merge"), Cuts(rows=[4.0]), Budget(2e4, 512))
    with pytest.raises(InputError, match="too few for an entropy model"):
        entropy_model(Budget(2e4, 512))


@pytest.mark.parametrize("name", ["hnet", "static_1", "kmer_9", "bpe_8", "static_", "kmer_06"])
def test_unknown_arms(name):
    with pytest.raises(InputError, match=f"arm '{name}' is unknown; there are transformer"):
        find_arm(name)


def test_all_arms_of_a_plan_are_within_tolerance(plan):
    assert list(plan["arms"]) == ARMS
    assert all(abs(arm["deviation"]) <= 0.03 for arm in plan["arms"].values())
