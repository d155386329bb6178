"""What letters contribute: methods against functions whose contributions are known, and models against themselves."""

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from staged_model import staged_model

from genotok.errors import InputError
from genotok.genomes.fasta import Reference, write_fasta
from genotok.genomes.regions import Region
from genotok.interpret.attribution import AttributionSettings, Attributor
from genotok.interpret.attribution_methods import (
    hypothetical_of_changes,
    input_x_gradient,
    integrated_gradients,
    make_baselines,
    mutagenesis,
    turned,
)
from genotok.interpret.attribution_targets import (
    Target,
    letter_function,
    parse_variant,
    strands_of,
    window_around,
)
from genotok.interpret.differentiable_letters import LogLikelihood, one_hot
from genotok.interpret.dinucleotide_shuffle import dinucleotide_shuffle
from genotok.models import GenomicLM, ModelConfig
from genotok.models.likelihood import nucleotide_log_likelihood
from genotok.models.random_weights import random_model
from genotok.variants.score import score_vcf
from genotok.variants.tracks import scored_bases
from genotok.variants.vcf_input import open_vcf

LIKELIHOOD = Target("likelihood", 120, LogLikelihood(), "log-likelihood")
REGION, SHORT = Region("one", 100, 120), Region("one", 108, 120)


class KnownFunction:
    """A function of letters that is written down: sum of w x, plus the products of neighbours."""

    def __init__(self, codes, weights, product=0.0):
        self.codes, self.weights, self.product = codes, weights, product
        self.one_hot, self.varies = one_hot(codes, 5), codes >= 0

    def __call__(self, x):
        sums = (x * self.weights).sum(-1)
        return sums.sum(1) + self.product * (sums[:, 1:] * sums[:, :-1]).sum(1)

    def of_letters(self, codes):
        return self(torch.stack([one_hot(row, 5) for row in codes]))


@pytest.fixture
def known():
    torch.manual_seed(0)
    return KnownFunction(torch.tensor([0, 3, 2, -1, 1, 1]), torch.randn(6, 5))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def heads_folder(tmp_path_factory):
    """A model of one stage with two heads."""
    values = {
        "layout": ["T1"],
        "d_model": [16],
        "d_intermediate": [32],
        "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
        "tasks": ["lm", "prediction"],
        "heads": {
            "site": {"kind": "classification", "classes": ["no", "donor", "acceptor"]},
            "depth": {"kind": "regression", "outputs": 1, "per": "nucleotide"},
        },
    }
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("heads")
    GenomicLM(ModelConfig.from_dict(values)).save_pretrained(folder)
    return folder


def expected_of_linear(known):
    weights = known.weights[:, :4] * known.varies[:, None]
    return weights - weights.mean(1, keepdim=True)


def test_all_methods_agree_where_the_function_is_linear(known):
    expected = expected_of_linear(known)
    found, complete = integrated_gradients(known, make_baselines(known, "uniform", 1, 0), 3, 2)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(input_x_gradient(known), expected)
    changes = mutagenesis(known, 4).numpy()
    torch.testing.assert_close(
        torch.from_numpy(hypothetical_of_changes(changes)), expected, rtol=1e-4, atol=1e-5
    )
    assert abs(complete.gap) < 1e-5
    assert complete.total == pytest.approx(float((expected * known.one_hot[:, :4]).sum()), abs=1e-5)


@pytest.mark.parametrize("kind", ["uniform", "n", "shuffled"])
def test_integrated_gradients_of_products_are_exact(known, kind):
    """On the line from b to x u v has the parts u' v and u v'; the first is (v(b) + v(x)) / 2 (u(x) - u(b))."""
    known.weights[3] = 0  # what does not vary should not couple its neighbours
    known.product = 0.7
    baselines = make_baselines(known, kind, 4, 1)
    assert len(baselines) == (4 if kind == "shuffled" else 1)
    found, complete = integrated_gradients(known, baselines, 5, 2)
    expected = torch.zeros(6)
    for baseline in baselines:
        there, base = (known.one_hot * known.weights).sum(1), (baseline * known.weights).sum(1)
        middle = torch.nn.functional.pad((there + base) / 2, (1, 1))
        expected += (there - base) * (1 + 0.7 * (middle[:-2] + middle[2:])) / len(baselines)
    torch.testing.assert_close((found * known.one_hot[:, :4]).sum(1), expected * known.varies)
    assert abs(complete.gap) < 1e-5


def test_what_does_not_vary_contributes_nothing(known):
    found, _ = integrated_gradients(known, make_baselines(known, "n", 1, 0), 3, 9)
    for values in (found, input_x_gradient(known), mutagenesis(known, 100)):
        assert not values[3].any()
        assert values[[0, 1, 2, 4, 5]].any(1).all()


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_shuffle_keeps_pairs_and_ends(codes, seed):
    codes = np.array(codes, np.int64)
    found = dinucleotide_shuffle(codes, np.random.default_rng(seed))
    assert Counter(pairwise(found.tolist())) == Counter(pairwise(codes.tolist()))
    assert found[:1].tolist() == codes[:1].tolist()
    assert found[-1:].tolist() == codes[-1:].tolist()


def test_shuffles_reach_every_order_alike():
    """ACAGA has two orders of its loops."""
    generator = np.random.default_rng(0)
    seen = Counter(
        tuple(dinucleotide_shuffle(np.array([0, 1, 0, 2, 0]), generator).tolist()) for _ in range(400)
    )
    assert set(seen) == {(0, 1, 0, 2, 0), (0, 2, 0, 1, 0)}
    assert 150 < seen[0, 1, 0, 2, 0] < 250


@pytest.mark.parametrize("held", [True, False])
def test_at_the_true_letters_the_function_is_the_models(model, reference, held):
    begin, end = window_around(REGION, 240, 120)
    assert (begin, end) == (50, 170)
    letters = reference.fetch("one", begin, end).encode()
    nats, _ = nucleotide_log_likelihood(model, [letters])
    strand = strands_of(reference, "one", "forward")[0]
    function = letter_function(model, LIKELIHOOD, strand, REGION, held)
    with torch.no_grad():
        found = float(function(function.one_hot[None]))
    assert found == pytest.approx(float(nats[0, 50:].sum()), rel=1e-5)
    assert float(function.of_letters(function.codes[None])) == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("strands", ["forward", "reverse"])
def test_at_other_letters_it_is_their_log_likelihood(model, reference, strands):
    """Read as one-hot rows or as tokens: the model reads and predicts these letters, and nothing at an N."""
    (strand,) = strands_of(reference, "one", strands)
    function = letter_function(model, LIKELIHOOD, strand, REGION, held=False)
    codes = torch.from_numpy(np.random.default_rng(1).integers(0, 4, (3, 20)))
    with torch.no_grad():
        found = function(torch.stack([one_hot(row, 5) for row in codes]))
    torch.testing.assert_close(found, function.of_letters(codes), rtol=1e-5, atol=1e-4)
    start, end = strand.place(50, 170)
    letters = bytearray(strand.letters.fetch(start, end))
    place = strand.place(REGION.start, REGION.end)[0] - start
    letters[place : place + 20] = b"N" * 20
    nats, _ = nucleotide_log_likelihood(model, [bytes(letters)])
    with torch.no_grad():
        found = float(function(make_baselines(function, "n", 1, 0))[0])
    assert found == pytest.approx(float(nats[0, place:].sum()), rel=1e-5)


def test_gradients_are_those_of_finite_differences(model, reference):
    strand = strands_of(reference, "one", "reverse")[0]
    function = letter_function(model, LIKELIHOOD, strand, REGION, held=True)
    x = function.one_hot.clone()[None].requires_grad_()
    gradient = torch.autograd.grad(function(x)[0], x)[0][0]
    assert gradient.any(1).all()
    for place, column in [(0, 0), (3, 2), (10, 4), (19, 1)]:
        moved = function.one_hot.repeat(2, 1, 1)
        moved[:, place, column] += torch.tensor([0.02, -0.02])
        with torch.no_grad():
            above, below = function(moved).double()
        assert float(above - below) / 0.04 == pytest.approx(
            float(gradient[place, column]), rel=0.02, abs=4e-3
        )


@pytest.mark.parametrize("baseline", ["uniform", "n", "shuffled"])
@pytest.mark.parametrize("strands", ["forward", "reverse"])
def test_contributions_are_complete_where_boundaries_are_held(folder, reference, baseline, strands):
    settings = AttributionSettings(
        ["integrated_gradients"], baseline=baseline, strands=strands, shuffles=2, window=120, random_draws=0
    )
    found = Attributor(folder, reference, settings).attribute(REGION)
    complete = found.completeness
    assert abs(complete.value - complete.baseline) > 0.01
    assert abs(complete.gap) < 1e-3
    assert np.nansum(found.per_base("integrated_gradients")) == pytest.approx(complete.total, abs=1e-5)


def test_routed_boundaries_leave_a_gap_that_is_told(folder, reference):
    settings = AttributionSettings(
        ["integrated_gradients"], boundaries="routed", baseline="n", window=120, random_draws=0
    )
    complete = Attributor(folder, reference, settings).attribute(REGION).completeness
    assert abs(complete.gap) > 0.01
    assert complete.gap == pytest.approx(complete.total - complete.value + complete.baseline)


def test_a_model_without_chunks_is_complete_whatever_is_said(reference, tmp_path):
    staged_model(["m1t1"]).save_pretrained(tmp_path)
    found = []
    for boundaries in ("held", "routed"):
        settings = AttributionSettings(
            ["integrated_gradients"], boundaries=boundaries, window=60, random_draws=0
        )
        found.append(Attributor(tmp_path, reference, settings).attribute(REGION))
        assert abs(found[-1].completeness.gap) < 1e-3
    np.testing.assert_allclose(*(one.contributions["integrated_gradients"] for one in found), atol=1e-6)


def test_a_model_without_gradients_is_told_before_the_mutagenesis(reference, tmp_path, monkeypatch):
    values = {"tasks": ["mlm"], "layout": ["t1"], "d_model": [16], "d_intermediate": [0]}
    values["attention"] = {"heads": 2, "rotary_dim": 8, "window": -1}
    GenomicLM(ModelConfig.from_dict(values)).save_pretrained(tmp_path)
    monkeypatch.setattr(Attributor, "_scored_changes", None)
    settings = AttributionSettings(["mutagenesis", "integrated_gradients"], window=60)
    with pytest.raises(InputError, match="has no gradient here; take --method mutagenesis"):
        Attributor(tmp_path, reference, settings).attribute(REGION)


def test_both_strands_are_the_mean_of_each(folder, reference):
    def of(strands):
        settings = AttributionSettings(["input_x_gradient"], strands=strands, window=60, random_draws=0)
        return Attributor(folder, reference, settings).attribute(REGION).contributions["input_x_gradient"]

    np.testing.assert_allclose(of("both"), (of("forward") + of("reverse")) / 2, atol=1e-6)
    assert abs(of("forward") - of("reverse")).max() > 1e-3


def test_the_reverse_strand_is_the_forward_strand_of_the_reverse_complement(folder, reference, tmp_path):
    letters = reference.fetch("one")
    turned_letters = letters.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    write_fasta([("one", [turned_letters.encode()])], tmp_path / "turned.fa")
    mirrored = Region("one", 240 - REGION.end, 240 - REGION.start)
    contributions = []
    for genome, region, strands in (
        (reference, REGION, "reverse"),
        (Reference(tmp_path / "turned.fa"), mirrored, "forward"),
    ):
        settings = AttributionSettings(["integrated_gradients"], strands=strands, window=60, random_draws=0)
        found = Attributor(folder, genome, settings).attribute(region)
        contributions.append(found.contributions["integrated_gradients"])
    np.testing.assert_allclose(contributions[0], contributions[1][::-1, ::-1], atol=1e-5)


def test_mutagenesis_of_a_likelihood_is_that_of_the_scorer(model, folder, reference):
    """A window that holds the contig makes every variant's window the same."""
    settings = AttributionSettings(["mutagenesis"], window=480, random_draws=0)
    found = Attributor(folder, reference, settings).attribute(REGION)
    target = Target("likelihood", 240, LogLikelihood(), "")
    direct = [
        mutagenesis(letter_function(model, target, strand, REGION, True), 7)
        for strand in strands_of(reference, "one", "both")
    ]
    np.testing.assert_allclose(found.changes, (direct[0] + turned(direct[1])) / 2, atol=5e-4)
    assert abs(found.changes).max() > 0.1
    assert (found.changes[found.one_hot.astype(bool)] == 0).all()
    np.testing.assert_allclose(found.contributions["mutagenesis"].mean(1), 0, atol=1e-6)


@pytest.mark.parametrize(("ref", "alt"), [("", "C"), ("", "GTT"), ("GTA", ""), ("T", "G")])
def test_an_alleles_function_is_the_scorers_score(folder, reference, tmp_path, ref, alt):
    start = 104 if not ref else reference.fetch("one").index(ref, 100)
    before = reference.fetch("one", start - 1, start)
    variant = f"one:{start}:{before + ref}:{before + alt}"
    (tmp_path / "v.vcf").write_text(
        "##fileformat=VCFv4.3\n##contig=<ID=one,length=240>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        f"one\t{start}\t.\t{before + ref}\t{before + alt}\t.\t.\t.\n"
    )
    score_vcf(
        str(tmp_path / "v.vcf"), Path(reference.path), folder, str(tmp_path / "s.vcf"),
        window=100, device="cpu", threads=1, workers=0,
    )  # fmt: skip
    with open_vcf(str(tmp_path / "s.vcf")) as source:
        text = next(iter(source)).columns[7].decode()
    expected = float(text.split("GENOTOK_LLR=")[1].split(";")[0])
    region = Region("one", start - 8, start + 9)
    settings = AttributionSettings(
        ["integrated_gradients", "mutagenesis"], "allele", variant, window=100, random_draws=0, steps=16
    )
    attributor = Attributor(folder, reference, settings)
    found = attributor.attribute(region)
    assert found.completeness.value == pytest.approx(expected, abs=2e-4)
    assert abs(found.completeness.gap) < 1e-3
    if len(ref) == len(
        alt
    ):  # the letters of an indel may differ between the strands, as in a run of equal letters
        place = attributor.target.edit.start - region.start
        for values in found.contributions.values():
            assert not values[place].any()
            assert values[[place - 1, place + 1]].any(1).all()


def test_labels_of_sequences_and_of_nucleotides(heads_folder, reference):
    model = GenomicLM.from_pretrained(heads_folder)
    letters = reference.fetch("one", *REGION[1:])
    ids = torch.tensor([[model.tokenizer.start_id, *model.tokenizer.encode(letters)]])
    with torch.no_grad():
        predictions = model(ids, task="prediction").predictions
    expected = {
        ("site", "donor"): predictions["site"][0, 1],
        ("depth", None): predictions["depth"][0, 1:, 0].sum(),
    }
    for (head, label), value in expected.items():
        settings = AttributionSettings(
            ["integrated_gradients", "mutagenesis"], "label", head=head, label=label,
            strands="forward", random_draws=0, steps=64,
        )  # fmt: skip
        found = Attributor(heads_folder, reference, settings).attribute(REGION)
        assert found.completeness.value == pytest.approx(float(value), abs=1e-5)
        assert abs(found.completeness.gap) < 1e-4
        other = ids.clone()
        other[0, 8] = (ids[0, 8] + 1) % 4
        with torch.no_grad():
            moved = model(other, task="prediction").predictions[head][0]
        moved = moved[1] if label else moved[1:, 0].sum()
        assert found.changes[7, int(other[0, 8])] == pytest.approx(float(moved - value), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_batches_bound_the_memory_and_change_nothing(folder, reference, batch_size, monkeypatch):
    largest = []
    forward = GenomicLM.forward

    def watched(self, input_ids, *args, **kwargs):
        largest.append(len(input_ids))
        return forward(self, input_ids, *args, **kwargs)

    variant = f"one:115:{reference.fetch('one', 114, 115)}:{'A' if reference.fetch('one', 114, 115) != 'A' else 'C'}"
    about = {"target": "allele", "variant": variant, "window": 60, "random_draws": 0, "steps": 3}
    found = []
    for size in (100, batch_size):
        settings = AttributionSettings(("integrated_gradients", "mutagenesis"), batch_size=size, **about)
        attributor = Attributor(folder, reference, settings)
        with monkeypatch.context() as patch:
            patch.setattr(GenomicLM, "forward", watched)
            largest.clear()
            found.append(attributor.attribute(SHORT))
    assert max(largest) <= batch_size
    for method in settings.methods:
        np.testing.assert_allclose(*(one.contributions[method] for one in found), atol=2e-5)


@pytest.mark.parametrize("region", [Region("two", 0, 9), Region("two", 200, 212), Region("two", 0, 212)])
def test_ends_of_contigs_ambiguous_and_lower_case_letters(folder, reference, region, tmp_path):
    settings = AttributionSettings(("integrated_gradients",), window=212, random_draws=0, steps=16)
    found = Attributor(folder, reference, settings).attribute(region)
    upper = tmp_path / "upper.fa"
    write_fasta([("two", [reference.fetch("two").encode()])], upper)
    same = Attributor(folder, Reference(upper), settings).attribute(region)
    np.testing.assert_array_equal(
        found.contributions["integrated_gradients"], same.contributions["integrated_gradients"]
    )
    assert found.letters == reference.fetch("two", *region[1:])
    ambiguous = [letter not in "ACGT" for letter in found.letters]
    assert np.isnan(found.per_base("integrated_gradients")).tolist() == ambiguous
    assert not found.one_hot[ambiguous].any()
    assert not found.contributions["integrated_gradients"][ambiguous].any()
    assert abs(found.completeness.gap) < 2e-3


def test_random_weights_give_other_contributions_and_the_same_weights_the_same(folder, reference, tmp_path):
    settings = AttributionSettings(
        ("integrated_gradients", "input_x_gradient", "mutagenesis"),
        window=40,
        seed=3,
        steps=6,
        random_draws=2,
    )
    found = Attributor(folder, reference, settings).attribute(SHORT)
    assert list(found.randomised) == ["integrated_gradients", "input_x_gradient"]
    for pairs in found.randomised.values():
        assert len(pairs) == 2
        assert all(abs(value) < 0.95 for pair in pairs for value in pair)
    random_model(GenomicLM.from_pretrained(folder).config, 4).save_pretrained(tmp_path)
    same = Attributor(tmp_path, reference, settings).attribute(SHORT)
    for first, second in same.randomised.values():
        assert second == pytest.approx((1, 1), abs=1e-4)
        assert max(first) < 0.95


def test_masked_models_and_tokens_of_several_letters_have_mutagenesis_alone(reference, tmp_path):
    values = {
        "layout": ["T1"],
        "d_model": [16],
        "d_intermediate": [32],
        "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
    }
    models = {
        "masked": (values | {"tasks": ["mlm"]}, "does not predict the next letter"),
        "kmers": (values | {"tokenizer": {"type": "kmer", "k": 3}}, "has no token for each nucleotide"),
    }
    for name, (config, sentence) in models.items():
        folder = tmp_path / name
        torch.manual_seed(0)
        GenomicLM(ModelConfig.from_dict(config)).save_pretrained(folder)
        region = Region("one", 60, 66)
        with pytest.raises(InputError, match=sentence):
            Attributor(folder, reference, AttributionSettings(["integrated_gradients"], window=30)).attribute(
                region
            )
        settings = AttributionSettings(["mutagenesis"], window=30, random_draws=0)
        found = Attributor(folder, reference, settings).attribute(region)
        with open_scored(folder, reference, region, tmp_path / f"{name}.vcf") as source:
            scores = np.nan_to_num([base.scores for base in scored_bases(source)])
        np.testing.assert_allclose(found.changes, scores, atol=1e-5)


def open_scored(folder, reference, region, path):
    from genotok.variants.saturation import Saturation

    score_vcf(
        Saturation([region]), Path(reference.path), folder, str(path),
        window=30, device="cpu", threads=1, workers=0,
    )  # fmt: skip
    return open_vcf(str(path))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"methods": ["saliency"]}, "--method: 'saliency' should be one of integrated_gradients"),
        ({"methods": []}, "--method: name at least one"),
        ({"target": "class"}, "--target: 'class' should be one of"),
        ({"target": "allele"}, "--variant and --target allele go together"),
        ({"variant": "one:1:A:C"}, "--variant and --target allele go together"),
        ({"head": "x"}, "--head and --class are for --target label"),
        ({"steps": 0}, "--steps: should be at least 1"),
        ({"random_draws": -1}, "--random-draws: should be at least 0"),
        ({"baseline": "zero"}, "--baseline: 'zero' should be"),
    ],
)
def test_bad_settings(values, sentence):
    with pytest.raises(InputError) as caught:
        AttributionSettings(**values)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("one:5:A", "should be CONTIG:POSITION:REF:ALT"),
        ("one:x:A:C", "should be CONTIG:POSITION:REF:ALT"),
        ("four:5:A:C", "has no contig four"),
        ("one:5:A:<DEL>", "should be spelled with A, C, G and T"),
        ("one:500:A:C", "the FASTA has no letter at 500, not A"),
        ("two:5:A:C", "the FASTA has N at 5, not A"),
        ("two:1:A:A", "REF and ALT are the same"),
    ],
)
def test_bad_variants(reference, text, sentence):
    with pytest.raises(InputError) as caught:
        parse_variant(text, reference)
    assert sentence in str(caught.value)


def test_a_contig_with_colons_has_variants(reference):
    name = "HLA-DRB1*16:02:01"
    ref = reference.fetch(name, 9, 10)
    contig, edit = parse_variant(f"{name}:10:{ref.lower()}:{'G' if ref == 'C' else 'C'}", reference)
    assert (contig, edit.start, edit.ref) == (name, 9, ref.encode())


@pytest.mark.parametrize(
    ("values", "region", "sentence"),
    [
        ({"window": 19}, REGION, "one:101-120: has 20 bases, and the window 19"),
        ({"target": "label"}, REGION, "the model has no prediction head"),
        ({"target": "allele", "variant": "two:1:A:C"}, REGION, "lies on two, and the region on one"),
        ({"methods": ["mutagenesis"], "strands": "reverse"}, REGION, "--strands reverse"),
    ],
)
def test_bad_requests(folder, reference, values, region, sentence):
    with pytest.raises(InputError) as caught:
        Attributor(folder, reference, AttributionSettings(**values)).attribute(region)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("head", "label", "sentence"),
    [
        (None, None, "--head: name one of site, depth"),
        ("sites", None, "the model has no head 'sites'"),
        ("site", None, "--class: name one of no, donor, acceptor"),
        ("site", "branch", "the head 'site' has no class 'branch'"),
    ],
)
def test_bad_labels(heads_folder, reference, head, label, sentence):
    with pytest.raises(InputError) as caught:
        Attributor(heads_folder, reference, AttributionSettings(target="label", head=head, label=label))
    assert sentence in str(caught.value)


def test_random_sequences_are_attributed_alike_wherever_they_lie(folder, tmp_path):
    """With the same window the place on the contig does not matter."""
    letters = bytes(random.Random(8).choices(b"ACGT", k=60))
    write_fasta([("a", [letters]), ("b", [b"N" * 13 + letters + b"N" * 7])], tmp_path / "g.fa")
    reference = Reference(tmp_path / "g.fa")
    settings = AttributionSettings(["input_x_gradient"], window=20, random_draws=0)
    attributor = Attributor(folder, reference, settings)
    found = [
        attributor.attribute(region).contributions["input_x_gradient"]
        for region in (Region("a", 20, 30), Region("b", 33, 43))
    ]
    np.testing.assert_allclose(*found, atol=1e-6)


def test_a_planted_motif_is_what_a_trained_model_looks_at_and_a_random_one_does_not(tmp_path):
    """Sequences are labelled by a word of six letters that stands anywhere in them."""
    word, length = b"TGACTC", 24
    generator = np.random.default_rng(0)
    values = {
        "layout": ["M1"],
        "d_model": [24],
        "d_intermediate": [48],
        "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
        "mamba2": {"d_state": 8, "head_dim": 8, "chunk_size": 24},
        "tasks": ["prediction"],
        "heads": {"word": {"kind": "multi_label", "outputs": 1}},
    }
    torch.manual_seed(0)
    model = GenomicLM(ModelConfig.from_dict(values))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)

    def drawn(count):
        letters = generator.choice(np.frombuffer(b"ACGT", np.uint8), (count, length))
        labels, places = generator.integers(0, 2, count), generator.integers(0, length - 5, count)
        for row in np.flatnonzero(labels):
            letters[row, places[row] : places[row] + 6] = list(word)
        return letters, labels, places

    for _ in range(100):
        letters, labels, _ = drawn(64)
        ids = torch.from_numpy(model.tokenizer.encode_letters(letters).astype(np.int64))
        model(ids, labels={"word": torch.from_numpy(labels[:, None].astype(np.float32))}).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(tmp_path / "model")
    letters, labels, places = drawn(12)
    write_fasta([(str(i), [row.tobytes()]) for i, row in enumerate(letters)], tmp_path / "g.fa")
    reference = Reference(tmp_path / "g.fa")
    settings = AttributionSettings(
        ("integrated_gradients", "mutagenesis"), "label", strands="forward", steps=8
    )
    attributor = Attributor(tmp_path / "model", reference, settings)
    shares, likeness = {method: [] for method in settings.methods}, []
    for row in np.flatnonzero(labels):
        found = attributor.attribute(Region(str(row), 0, length))
        for method in settings.methods:
            values = found.per_base(method)
            shares[method].append(values[places[row] : places[row] + 6].sum() / values.sum())
        likeness += [abs(pair[0]) for pair in found.randomised["integrated_gradients"]]
    for method, of_method in shares.items():
        assert np.median(of_method) > 0.7, f"{method}: a quarter is chance"
    assert np.mean(likeness) < 0.5
