"""What the figures and the results page call things: their files, and the predictors that they compare.

Nothing heavy is imported here, so that the page is made at once.
"""

from typing import Any

TRAINING_FIGURE, TRAINING_SUMMARY = "training", "training.json"
# The main number of a run, by its task, and what it is called.
TRAINING_CURVES = {
    "bits_per_base": "Bits per base",
    "nats_per_masked_token": "Nats per masked token",
    "loss": "Loss",
}
BITS_FIGURE, LENGTHS_FIGURE, EVALUATION_SUMMARY = "bits_per_base", "chunk_lengths", "evaluation.json"
CHUNKS_FIGURE, CHUNKS_SUMMARY = "chunks", "chunks.json"
DISTRIBUTION_FIGURE, AGREEMENT_FIGURE, TRUTH_FIGURE = (
    "llr_distribution",
    "variant_effect",
    "llr_against_truth",
)
LABELS_FIGURE = "label_areas"
VARIANTS_SUMMARY = "variant_effect.json"
SATURATION_FIGURE, SATURATION_GROUPS_FIGURE = "saturation", "saturation_groups"
SATURATION_SUMMARY = "saturation.json"
SETS_FIGURE, SETS_SUMMARY = "score_sets", "score_sets.json"
DOWNSTREAM_FIGURE, DOWNSTREAM_SUMMARY = "downstream", "downstream.json"

COMPARISON_FIGURE, COMPARISON_SUMMARY = "comparison", "comparison.json"

# What predicts the labels of sequences, the model's ways first.
DOWNSTREAM_METHODS = {
    "finetune": "this model, fine-tuned",
    "probe": "this model, linear probe",
    "random_weights": "random weights, linear probe",
    "kmers": "k-mer regression",
    "majority": "labels alone",
}
DOWNSTREAM_METRICS = {
    "mcc": "Matthews' correlation",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "Accuracy",
    "f1": "F1",
    "pearson": "Pearson's correlation",
    "spearman": "Spearman's correlation",
    "r2": "R2",
    "mse": "Squared error",
}
DOWNSTREAM_PARTS = {"all": "", "not_in_train": " that do not stand in train"}

ENRICHMENT_FIGURE, WORDS_FIGURE = "token_enrichment", "token_words"
STAGES_FIGURE, TRACK_FIGURE, STABILITY_FIGURE = "token_stages", "token_track", "token_stability"
TOKENS_SUMMARY = "tokens.json"
MOTIFS_FIGURE, MOTIFS_SUMMARY = "motif_logos", "motifs.json"

ATTRIBUTION_FIGURE, CHANGES_FIGURE = "attribution", "attribution_changes"
ATTENTION_MAPS_FIGURE = "attention_maps"
ATTRIBUTION_PAGE, ATTRIBUTION_SUMMARY = "attribution.html", "attributions.json"
ATTRIBUTION_METHODS = {
    "integrated_gradients": "integrated gradients",
    "input_x_gradient": "input x gradient",
    "mutagenesis": "mutagenesis",
}

# Kinds of annotated places, in the order in which they are shown; see genotok.interpret.annotation_masks.
PLACE_KINDS = {
    "codon_position_1": "codon position 1",
    "codon_position_2": "codon position 2",
    "codon_position_3": "codon position 3",
    "reverse_codon_position_1": "codon pos. 1, reverse",
    "reverse_codon_position_2": "codon pos. 2, reverse",
    "reverse_codon_position_3": "codon pos. 3, reverse",
    "start_codon": "start codon",
    "stop_codon": "stop codon",
    "splice_donor": "splice donor",
    "splice_acceptor": "splice acceptor",
    "cds": "coding",
    "exon": "exon",
    "utr": "untranslated exon",
    "intron": "intron",
    "promoter": "200 bases upstream",
    "intergenic": "intergenic",
    "soft_masked": "repeat (soft-masked)",
    "homopolymer": "homopolymer",
    "gc": "G or C",
}

VARIANT_PREDICTORS = {
    "model": "this model",
    "model_absolute": "this model, size alone",
    "transition": "transition or transversion",
    "low_gc": "GC around",
    "mutability": "mutability of 3 letters",
    "splice_distance": "distance to splice site",
    "consequence": "consequence class",
    "consequence_then_transition": "class, then transition",
}


def predictor_label(name: str) -> str:
    """What people call the model or a baseline of `genotok evaluate`."""
    if name.startswith("markov_") and name != "markov_mixture":
        return f"Markov, order {name.removeprefix('markov_')}"
    return {"model": "this model", "uniform": "uniform", "markov_mixture": "Markov, mixture"}.get(name, name)


def signed(number: float, digits: int = 3) -> str:
    """A number with its sign, and a minus as long as the plus."""
    return f"{number:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def agreement_groups(statistics: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """The predictors' statistics for `all` variants, then for each consequence class."""
    return {"all": statistics["predictors"], **statistics.get("per_consequence", {})}
