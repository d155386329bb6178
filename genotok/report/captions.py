"""How to read each figure, by the figure's file name without `.svg`.

The captions of the Snakemake report, `workflow/report/<name>.rst`, hold the same sentences.
"""

TITLES = {
    "training": "Training",
    "bits_per_base": "Bits per base beside the baselines",
    "chunk_lengths": "Lengths of the learned chunks",
    "chunks": "Learned chunks along a region",
    "llr_distribution": "Distribution of the variant scores",
    "variant_effect": "Agreement with measured effects",
    "llr_against_truth": "Variant scores against measured effects",
    "label_areas": "Harmful variants told from harmless ones",
    "score_sets": "Sets of variants and models beside each other",
    "saturation": "Every variant of one base",
    "saturation_groups": "Variants of one base by what they do",
    "downstream": "Labels that are predicted",
    "comparison": "Tokenizers on equal work",
    "token_enrichment": "Where chunks begin",
    "token_words": "The most frequent chunks",
    "token_stages": "Stages of chunks beside each other",
    "token_track": "Compression along the genome",
    "token_stability": "How chunks change with one letter",
    "attribution": "What each base contributes",
    "attribution_changes": "What each other letter would change",
    "attention_maps": "What the attention layers look at",
    "motif_logos": "Motifs in what bases contribute",
}

CAPTIONS = {
    "training": (
        "Left: bits per base over the training steps, fewer are better; 2 bits are what a model needs that knows "
        "nothing. A gap that opens between the training batches and the validation contigs means overfitting. "
        "Dotted lines are alarms. Right: which share of its positions each stage keeps as the beginnings of chunks, "
        "how undecided it is about them (0 sure, 1 undecided), the loss that pulls this share towards its target (1 "
        "a stage when it is met), and the learning rate."
    ),
    "bits_per_base": (
        "How many bits each model needs for a base of held-out contigs: the mean of -log2 p, fewer are better. A "
        "large dot stands for all contigs together and has its value at the right, a small dot for one contig. "
        "The Markov models were counted on the training contigs and see the given number of bases before each "
        "base; a model that is no better than their mixture has learned little beyond short words."
    ),
    "chunk_lengths": (
        "How long the chunks of each stage are on the held-out contigs, in bases. The dashed line is the mean: "
        "so many bases are one position to the stages within. A single peak suggests fixed strides; a broad or "
        "skewed shape, chunks that follow the sequence."
    ),
    "chunks": (
        "The sequence on the colours of its chunks: the colour changes where a chunk begins; bars above the "
        "letters are the chunks of the stages within. Blue bars: how probably a chunk begins at the base, dark "
        "where one does, above one half. Orange bars: the surprisal -log2 p of the base given those before it; 2 "
        "bits (dashed) are those of a guess among four. The first chunk and the last are cut off at the edges. Where "
        "an annotation is given, grey boxes below the letters are codons with their amino acids, * being a stop; "
        "above them stand the gene and its place, and an arrowhead marks its end."
    ),
    "llr_distribution": (
        "Log-likelihood ratio ln p(ALT) - ln p(REF) of the scored alleles, in nats: negative where the model finds "
        "ALT less likely. There is a panel for each consequence class, where classes are known, with the median "
        "as an orange line: the highest median on top, rare classes together at the bottom. The outermost bins "
        "hold the tails as well. A model that knows the constraint on proteins puts nonsense and missense alleles "
        "below synonymous ones."
    ),
    "variant_effect": (
        "Spearman's rank correlation between scores and measured effects, with its 95 % bootstrap interval: +1 is "
        "full agreement, 0 none. The model (orange) stands beside scores that need no model (blue): transition or "
        "transversion, the consequence class, and both. Within one class only the model and the first of them can "
        "tell alleles apart. A model is of use where its interval lies to the right of theirs."
    ),
    "llr_against_truth": (
        "Each hexagon counts the alleles with about this score and this measured effect, darker for more. The line "
        "joins the medians of twentieths of the alleles by rising score: it rises steadily where the score orders "
        "the effects, and is flat where the score says nothing about them."
    ),
    "label_areas": (
        "How well the scores tell harmful variants from harmless ones, with 95 % intervals of a bootstrap within "
        "each of the two labels. Left: the area under the ROC curve, the probability that a harmful variant has "
        "the more harmful score of two. Right: the area under the precision-recall curve (average precision). The "
        "model (orange) stands beside scores that need no model (blue). The grey mark is what a useless score "
        "gets: one half on the left, the share of harmful variants on the right. An area below it means that the "
        "reverse of the score would do better."
    ),
    "score_sets": (
        "Each set of variants that something is known about, by its name and, behind a dot, the model where it is "
        "not the one trained here. The model (orange) stands above the best of the scores that need no model "
        "(blue, named at the right), each with its 95 % bootstrap interval. The dashed line is what a useless "
        "score gets. A model is of use for a set where its interval lies to the right of the other."
    ),
    "saturation": (
        "The score of every variant of one base along a region: a column a position, a row for each letter that "
        "takes the reference's place (grey, with its letter) and one for its deletion; a run of equal letters shares "
        "one deletion. Orange: the model finds the variant less likely than the reference; blue: more likely; the "
        "strongest fiftieth has the outermost colour. Where an annotation is given, codons and amino acids stand "
        "below, a ring marks a variant that leaves the protein as it is, a cross one that ends it early, and one in "
        "a codon without a mark changes an amino acid. Columns that are orange as a whole are places where the model "
        "expects the reference's letter; a model that knows the code is paler at rings."
    ),
    "saturation_groups": (
        "The same scores by groups of variants: the orange mark is the median, the bar holds the middle half, the "
        "line 5 to 95 % of them. A model that has learned reading frames scores substitutions at the third codon "
        "position higher than at the other two, and synonymous ones higher than missense and nonsense. Transitions "
        "are more frequent than transversions in evolution, so that a difference between these two says nothing "
        "about proteins."
    ),
    "downstream": (
        "Sequences with labels, predicted from the training rows of each set and tested on rows that "
        "these did not hold: Matthews' correlation for classes, Pearson's for numbers, with 95 % "
        "intervals of a bootstrap over different sequences. The model (orange), fine-tuned and as a "
        "linear probe of its frozen states, stands beside methods that know nothing of it (blue): a "
        "probe of the same architecture with random weights, a regression on counts of k-mers, and the "
        "shares of the labels alone. Training has taught the model something of use where its probe "
        "lies to the right of random weights, and it is worth its cost where it lies to the right of "
        "the k-mers."
    ),
    "comparison": (
        "Tokenizers that read the same bases and cost the same operations of training a base. Each mark is an "
        "arm: the mean over its seeds, with a 95 % interval of a bootstrap over blocks of the held-out contigs "
        "and over seeds. Lower is better. Left, the time that training takes a megabase on this machine; right, "
        "its peak memory: equal operations do not take equal time. The dashed line is the best of the models that "
        "count words of the training sequence. Two arms whose bars overlap may still differ, since they were "
        "measured on the same blocks; the conclusions in comparison.md compare them block by block."
    ),
    "token_enrichment": (
        "Do chunks begin where something begins? Each dot is a kind of places: how many chunks begin there, over how "
        "many would if all boundaries were rotated along the contig, which keeps their number and their distances; "
        "1 (dashed) is chance. The pale bar holds 95 % of the rotations; a dot is orange where it lies outside. At "
        "the right, the share of the kind's bases where a chunk begins. Codon positions count along the gene; a "
        "model that has learned the reading frame treats the three unlike."
    ),
    "token_words": (
        "The chunks that the model cuts most often. The black mark is how often the string would be a chunk of its "
        "length if letters were drawn independently: a bar far beyond its mark is a word that the model prefers, "
        "or the genome does."
    ),
    "token_stages": (
        "A row for each stage of chunks. Left: how long its chunks are in the genome that was studied; the dashed "
        "line is the mean, the black curve what boundaries at random would give with this mean. Bars far from the "
        "curve mean that the stage keeps to lengths of its own; the longest are in the table alone. "
        "Where there are several stages: in the middle, how many chunks of the stage before one chunk holds; at the "
        "right, how many of that stage's boundaries are boundaries of this one too, by kind of places, the dashed "
        "line standing for all. The inner stage favours kinds to the right of it."
    ),
    "token_track": (
        "How many bases one chunk holds (coloured, left axis) and how many bits the model needs for a base (grey, "
        "right axis), in bins of 1,000 bases along the longest contigs. Dips and peaks that both lines share are "
        "stretches that the model finds easy or hard. Where an annotation is given, genes stand below: boxes with "
        "an arrowhead at the end, or, where a contig has more than 60, the share of bases that are coding on the "
        "forward strand (upwards, green) and on the reverse strand (downwards, purple)."
    ),
    "token_stability": (
        "Left: one letter is replaced; the curves say at which distance behind it a boundary comes or goes, as a "
        "share of the sites. Right: reading begins one base later; the curves say where the two readings differ. "
        "Chunks that follow the sequence soon agree again; fixed strides never do."
    ),
    "attribution": (
        "How much each base contributes to the target, by each method: letters above the line raise it, letters "
        "below lower it, and the height says by how much, in nats for likelihoods and in the unit of the output "
        "for labels. A base contributes by how well the model expects it and by what it tells about the bases "
        "behind it. Contributions are measured against no information about the base: the four letters in equal "
        "parts, or the baseline that was asked for. Fine vertical lines are the edges of the chunks of stage 0. "
        "Trust what several methods agree on."
    ),
    "attribution_changes": (
        "What the target changes by when one base is another letter: blue cells raise it, orange cells lower it, "
        "white ones change nothing; dots mark the letters that stand there. A column of strong orange is a base "
        "that the model wants as it is. The model reads every changed sequence anew, so moved chunk edges count "
        "as well."
    ),
    "attention_maps": (
        "Which rows, across, each row of the region, downwards, takes its information from, a panel for each head "
        "of each attention layer: darker is more, on each panel's own scale. Rows are tokens in stage 0 and "
        "chunks further in; a chunk is as wide as its bases. The number above a panel is the share of attention"
        " that goes to rows outside the region. A line along the diagonal is a head that looks at the row "
        "itself or at a fixed distance; vertical lines are rows that many others look at. Weights below 0.001 "
        "are left out of the data."
    ),
    "motif_logos": (
        "Motifs of stretches whose bases contribute much to the output, those with most sites on top. Left: how much "
        "a column tells, in bits (2 where the letter is always the same); a letter is as high as its share of the "
        "column. Right: the mean contribution of each letter over the sites; letters below the line lower the "
        "output. A column that is high on the left and low on the right is there in the sequence, but the model "
        "does not use it. A motif may stand on either strand."
    ),
}
