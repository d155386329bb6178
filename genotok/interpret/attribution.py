"""What each base of a region contributes to a likelihood, a variant's score or a label."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr

from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.genomes.regions import Region
from genotok.interpret.attention_maps import AttentionMap, attention_maps
from genotok.interpret.attribution_methods import (
    BASELINES,
    Completeness,
    hypothetical_of_changes,
    input_x_gradient,
    integrated_gradients,
    make_baselines,
    mutagenesis,
    turned,
)
from genotok.interpret.attribution_targets import (
    STRANDS,
    TARGETS,
    Strand,
    Target,
    letter_function,
    parse_variant,
    strands_of,
    window_around,
)
from genotok.interpret.differentiable_letters import LETTERS, HeadOutput, LogLikelihood, one_hot
from genotok.models import GenomicLM
from genotok.models.random_weights import random_model
from genotok.training.columns import cuts_by_given
from genotok.variants.saturation import Saturation
from genotok.variants.score import score_vcf
from genotok.variants.tracks import scored_bases
from genotok.variants.vcf_input import open_vcf

GRADIENTS = ("integrated_gradients", "input_x_gradient")
METHODS = (*GRADIENTS, "mutagenesis", "attention")
BOUNDARIES = ("held", "routed")
DEFAULT_WINDOW = 512
LONGEST_ALLELE_SHARE = 2  # as in scoring, an allele is at most half a window long


@dataclass(frozen=True)
class AttributionSettings:
    """How a region is attributed.

    Attributes:
        methods: of `METHODS`, in the order in which they are shown; the first with contributions is the main one.
        target: of `genotok.interpret.attribution_targets.TARGETS`.
        variant: `CONTIG:POSITION:REF:ALT`, of the target `allele`.
        head: prediction head of the target `label`; None where the model has one alone.
        label: class or output of that head; None where it has one alone.
        window: letters that the model reads; None for 512, and for `label` the region alone.
        strands: `both` (the mean, turned to the forward strand), `forward` or `reverse`.
        boundaries: `held` as the model finds them in the true sequence, or `routed` anew for each input, see
            `genotok.interpret.differentiable_letters`. For gradients alone: mutagenesis always routes anew.
        baseline: of `genotok.interpret.attribution_methods.BASELINES`.
        shuffles: how many shuffled sequences are averaged over.
        steps: points on each line of integrated gradients.
        batch_size: windows at once, in every method; it bounds the memory and does not change results.
        random_draws: how many models of the same shape with random weights are attributed as well, by the methods
            with gradients, or by mutagenesis where there are none (Adebayo et al. 2018, arXiv 1810.03292): a method
            that gives the same then shows the sequence and not the model.
        seed: of the shuffles and of the random weights.
    """

    methods: Sequence[str] = ("integrated_gradients", "mutagenesis", "attention")
    target: str = "likelihood"
    variant: str | None = None
    head: str | None = None
    label: str | None = None
    window: int | None = None
    strands: str = "both"
    boundaries: str = "held"
    baseline: str = "uniform"
    shuffles: int = 8
    steps: int = 32
    batch_size: int = 16
    random_draws: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        known = {"target": TARGETS, "strands": STRANDS, "boundaries": BOUNDARIES, "baseline": BASELINES}
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise InputError(f"--{name}: {getattr(self, name)!r} should be one of {', '.join(choices)}")
        for method in self.methods:
            if method not in METHODS:
                raise InputError(f"--method: {method!r} should be one of {', '.join(METHODS)}")
        if not self.methods or len(set(self.methods)) != len(self.methods):
            raise InputError("--method: name at least one, and each once")
        if (self.variant is not None) != (self.target == "allele"):
            raise InputError("--variant and --target allele go together: the variant is what is attributed")
        if (self.head or self.label) and self.target != "label":
            raise InputError("--head and --class are for --target label")
        for name in ("shuffles", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')}: should be at least 1")
        if self.random_draws < 0:
            raise InputError("--random-draws: should be at least 0")

    @property
    def contributing(self) -> list[str]:
        """The methods that give contributions of bases."""
        return [method for method in self.methods if method != "attention"]


@dataclass
class Attribution:
    """What is found of one region; coordinates are 0-based and half-open.

    Attributes:
        region: where.
        letters: the L letters, upper-cased.
        target: what is attributed, in words.
        one_hot: (L, 4) uint8, columns A, C, G, T; zeros at other letters.
        contributions: by method (L, 4) float32: hypothetical contributions in the unit of the target.
        changes: of `mutagenesis` (L, 4) float32, what the target changes by; 0 at the letter that stands there.
        completeness: of `integrated_gradients`.
        randomised: by method Pearson's and Spearman's correlation of the bases' contributions with those of each
            model with random weights; NaN where one of both is constant.
        attention: the maps; none where they are not asked for or the model has no attention.
    """

    region: Region
    letters: str
    target: str
    one_hot: np.ndarray
    contributions: dict[str, np.ndarray] = field(default_factory=dict)
    changes: np.ndarray | None = None
    completeness: Completeness | None = None
    randomised: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    attention: list[AttentionMap] = field(default_factory=list)

    def per_base(self, method: str) -> np.ndarray:
        """(L,) float64 contribution of each base; NaN at letters that are not A, C, G or T."""
        known = self.one_hot.any(1)
        return np.where(known, (self.contributions[method] * self.one_hot).sum(1, dtype=np.float64), np.nan)


class Attributor:
    """A model and a genome whose regions are attributed.

    Args:
        model_folder: holds config.json and model.safetensors.
        reference: the genome.
        settings: see there.
        device: of torch.
        threads: on the CPU.
    Raises:
        InputError: the model does not have what the settings name.
    """

    def __init__(
        self,
        model_folder: Path,
        reference: Reference,
        settings: AttributionSettings,
        *,
        device: torch.device | str = "cpu",
        threads: int = 1,
    ):
        self.folder, self.reference, self.settings = Path(model_folder), reference, settings
        self.device, self.threads = torch.device(device), threads
        self.model = GenomicLM.from_pretrained(self.folder, self.device).eval().requires_grad_(False)
        if cuts_by_given(self.model.config):
            raise InputError(f"{model_folder}: cuts by given boundaries, which attribution has none of")
        self.target = self._target()

    def attribute(self, region: Region) -> Attribution:
        """Attribute one region.

        Raises:
            InputError: the region does not fit the window, or the model lacks what a method needs.
        """
        settings, letters = self.settings, self.reference.fetch(region.contig, region.start, region.end)
        codes = torch.tensor([LETTERS.find(letter) for letter in letters.replace("U", "T")])
        found = Attribution(region, letters, self.target.text, one_hot(codes).byte().numpy())
        self._contribute(found, self.model, self.folder, settings.contributing)
        if "attention" in settings.methods:
            strand = strands_of(self.reference, region.contig, "forward")[0]
            window = None if self.target.kind == "label" else self.target.window
            found.attention = attention_maps(self.model, strand.letters, region, window)
        gradients = [method for method in settings.contributing if method in GRADIENTS]
        for draw in range(settings.random_draws):
            noise = self._noise(found, gradients or settings.contributing, draw)
            for method in noise.contributions:
                likeness = _correlations(found.per_base(method), noise.per_base(method))
                found.randomised.setdefault(method, []).append(likeness)
        return found

    def _target(self) -> Target:
        settings, kind = self.settings, self.settings.target
        window = settings.window or (None if kind == "label" else DEFAULT_WINDOW)
        if kind == "label":
            output = HeadOutput.named(self.model, settings.head, settings.label)
            classes = self.model.config.heads[output.head].classes
            column = classes[output.column] if classes else str(output.column)
            return Target(kind, window, output, f"output {column!r} of the head {output.head!r}")
        if kind == "likelihood":
            return Target(kind, window, LogLikelihood(), "log-likelihood of the region and what follows it")
        contig, edit = parse_variant(settings.variant, self.reference)
        if LONGEST_ALLELE_SHARE * max(len(edit.ref), len(edit.alt)) > window:
            raise InputError(f"--variant: an allele of {settings.variant} is longer than half the window")
        text = f"score of {settings.variant}, log p(ALT) - log p(REF)"
        return Target(kind, window, LogLikelihood(), text, contig, edit)

    def _contribute(self, found: Attribution, model: GenomicLM, folder: Path, wanted: Sequence[str]) -> None:
        """Fill in contributions by some methods, changes and completeness."""
        region, methods = found.region, list(wanted)
        if self.target.contig not in ("", region.contig):
            raise InputError(f"--variant: lies on {self.target.contig}, and the region on {region.contig}")
        window_around(region, self.reference.contigs[region.contig], self._reach(region))
        scored = self.target.kind == "likelihood" and "mutagenesis" in methods
        if scored:
            methods.remove("mutagenesis")
        strands = strands_of(self.reference, region.contig, self.settings.strands) if methods else []
        parts = [self._of_strand(model, strand, region, methods) for strand in strands]
        means = {
            method: torch.stack([of_strand[method] for of_strand, _ in parts]).mean(0).cpu().numpy()
            for method in methods
        }
        # Last, since it takes longest and every model can be scored: a model without gradients is told at once.
        found.changes = self._scored_changes(folder, region) if scored else means.get("mutagenesis")
        if found.changes is not None:
            means["mutagenesis"] = hypothetical_of_changes(found.changes)
        found.contributions = {method: means[method] for method in wanted}
        found.completeness = Completeness.mean([complete for _, complete in parts if complete])

    def _of_strand(
        self, model: GenomicLM, strand: Strand, region: Region, methods: Sequence[str]
    ) -> tuple[dict[str, torch.Tensor], Completeness | None]:
        """What methods give on one strand, as (L, 4) of the forward strand."""
        settings, complete, values = self.settings, None, {}
        function = letter_function(model, self.target, strand, region, settings.boundaries == "held")
        for method in methods:
            if method == "integrated_gradients":
                baselines = make_baselines(function, settings.baseline, settings.shuffles, settings.seed)
                values[method], complete = integrated_gradients(
                    function, baselines, settings.steps, settings.batch_size
                )
            elif method == "input_x_gradient":
                values[method] = input_x_gradient(function)
            else:
                values[method] = mutagenesis(function, settings.batch_size)
        return {method: part if strand.forward else turned(part) for method, part in values.items()}, complete

    def _reach(self, region: Region) -> int | None:
        """The window that a region must fit into; that of a variant need not hold the region."""
        return region.end - region.start if self.target.kind == "allele" else self.target.window

    def _scored_changes(self, folder: Path, region: Region) -> np.ndarray:
        """(L, 4) float32: the scores of all substitutions, as `genotok score --region` gives them."""
        settings = self.settings
        if settings.strands == "reverse":
            raise InputError("--strands reverse: mutagenesis of a likelihood reads `both` or `forward`")
        with TemporaryDirectory() as scratch:
            scored = Path(scratch) / "scored.vcf"
            score_vcf(
                Saturation([region], deletions=False), self.reference.path, folder, str(scored),
                window=self.target.window, strands=settings.strands, batch_size=settings.batch_size,
                device=str(self.device), precision="fp32", threads=self.threads, workers=0,
            )  # fmt: skip
            changes = np.zeros((region.end - region.start, 4), np.float32)
            with open_vcf(str(scored)) as source:
                for base in scored_bases(source):
                    changes[base.start - region.start] = np.nan_to_num(base.scores)
        return changes

    def _noise(self, found: Attribution, methods: Sequence[str], draw: int) -> Attribution:
        """The same region, attributed by a model with random weights."""
        other = random_model(self.model.config, self.settings.seed + draw).to(self.device)
        other = other.eval().requires_grad_(False)
        noise = Attribution(found.region, found.letters, found.target, found.one_hot)
        with TemporaryDirectory() as folder:
            if "mutagenesis" in methods:
                other.save_pretrained(folder)  # the scorer reads files
            self._contribute(noise, other, Path(folder), methods)
        return noise


def _correlations(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Pearson's and Spearman's, over bases that both know; NaN where there are too few or one is constant."""
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan"), float("nan")
    return float(pearsonr(a, b).statistic), float(spearmanr(a, b).statistic)
