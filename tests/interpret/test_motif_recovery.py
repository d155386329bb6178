"""A model learns a site on both strands, and its motif is found in what bases contribute."""

import numpy as np
import pytest
import torch
from planted_motifs import motif_of
from torch.nn.functional import cross_entropy

from genotok.genomes.fasta import Reference, write_fasta
from genotok.genomes.regions import Region
from genotok.interpret.attribution import AttributionSettings, Attributor
from genotok.interpret.attribution_files import write_arrays
from genotok.interpret.contributions import read_contributions
from genotok.interpret.meme_format import read_meme
from genotok.interpret.motif_search import search_motifs
from genotok.models import GenomicLM, ModelConfig

SITE = "GGATTCACAT"
LENGTH = 48
MODEL = {
    "layout": ["m1"],
    "d_model": [32],
    "d_intermediate": [64],
    "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
    "mamba2": {"d_state": 16, "head_dim": 16, "chunk_size": 32},
    "tokenizer": "nucleotide",
    "tasks": ["prediction"],
    "heads": {"site": {"kind": "classification", "classes": ["no", "yes"], "pool": "attention"}},
}


def sequences(draw, count):
    """Codes (count, LENGTH), half of which hold the site on either strand with a letter changed here and there."""
    codes, holds = draw.integers(0, 4, (count, LENGTH)), draw.random(count) < 0.5
    site = np.array(["ACGT".index(letter) for letter in SITE])
    starts = draw.integers(2, LENGTH - len(site) - 2, count)
    for row in np.flatnonzero(holds):
        letters = np.where(draw.random(len(site)) < 0.05, draw.integers(0, 4, len(site)), site)
        codes[row, starts[row] : starts[row] + len(site)] = (
            letters if draw.random() < 0.5 else 3 - letters[::-1]
        )
    return codes, holds, starts


def logits_of(model, codes):
    return model(torch.tensor(codes), task="prediction").predictions["site"]


@pytest.fixture(scope="module")
def models():
    """The trained model, and one with random weights."""
    torch.manual_seed(0)
    random, model = GenomicLM(ModelConfig.from_dict(MODEL)), GenomicLM(ModelConfig.from_dict(MODEL))
    assert model.tokenizer.encode("ACGT") == [0, 1, 2, 3]
    draw, steps = np.random.default_rng(0), 180
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)
    for _ in range(steps):
        codes, holds, _ = sequences(draw, 48)
        cross_entropy(logits_of(model, codes), torch.tensor(holds).long()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval(), random.eval()


def contributions(model, codes, folder):
    """Integrated gradients of the site's logit, as files of each sequence and back."""
    model.save_pretrained(folder / "model")
    records = [(f"s{number}", [bytes(b"ACGT"[code] for code in row)]) for number, row in enumerate(codes)]
    write_fasta(records, folder / "sequences.fa")
    how = {"methods": ["integrated_gradients"], "target": "label", "label": "yes", "steps": 8}
    settings = AttributionSettings(**how, strands="forward", random_draws=0)
    with Reference(folder / "sequences.fa") as reference:
        attributor = Attributor(folder / "model", reference, settings)
        for name, _ in records:
            write_arrays(attributor.attribute(Region(name, 0, LENGTH)), folder / f"{name}.npz")
    return read_contributions(sorted(folder.glob("*.npz")))


def test_the_site_that_a_model_has_learned_is_its_motif(models, pytestconfig, tmp_path):
    model, random = models
    codes, holds, starts = sequences(np.random.default_rng(9), 120)
    with torch.no_grad():
        right = (logits_of(model, codes).argmax(1).numpy() == holds).mean()
    assert right > 0.85
    known = {"site": motif_of(SITE, 0.97)} | read_meme(pytestconfig.rootpath / "resources/motifs/known.meme")

    found = search_motifs(contributions(model, codes, tmp_path / "trained"), known=known)
    best = min(found.matches, key=lambda match: match.p_value)
    assert best.known == "site"
    assert best.p_value < 1e-4
    rows = [int(region.contig[1:]) for region in found.regions]
    motif = next(motif for motif in found.motifs if motif.name == best.motif)
    assert motif.sign == 1
    within = [
        holds[row] and starts[row] - 3 <= site.start < starts[row] + 8
        for site in motif.sites
        for row in [rows[found.seqlets[site.seqlet].region]]
    ]
    assert np.mean(within) > 0.8
    assert {site.strand for site in motif.sites} == {"+", "-"}

    noise = search_motifs(contributions(random, codes[:60], tmp_path / "random"), known=known)
    assert all(match.p_value > 1e-4 for match in noise.matches if match.known == "site")
