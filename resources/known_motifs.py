"""Make `motifs/known.meme` of consensus sequences that stand in textbooks.

    python resources/known_motifs.py

A letter of a consensus has the probability 0.85 and each other letter 0.05; of two letters each has 0.45, of three
each 0.95 / 3; N is a quarter of each. They are no counts of sites: for work on a genome with a database of its
own, as JASPAR or RegulonDB, use that.
"""

from pathlib import Path

KNOWN = Path(__file__).resolve().parent / "motifs" / "known.meme"
IUPAC = {
    "A": "A",
    "C": "C",
    "G": "G",
    "T": "T",
    "R": "AG",
    "Y": "CT",
    "S": "CG",
    "W": "AT",
    "K": "GT",
    "M": "AC",
}
IUPAC |= {"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT"}
MOTIFS = {  # name -> consensus; where, and who described it
    # Bacteria and phages
    "sigma70_minus10": "TATAAT",  # Pribnow 1975
    "sigma70_minus35": "TTGACA",  # Hawley and McClure 1983
    "sigma70_extended_minus10": "TGNTATAAT",  # Keilty and Rosenberg 1987
    "sigma70_promoter": "TTGACANNNNNNNNNNNNNNNNNTATAAT",  # both boxes at 17 bases, Hawley and McClure 1983
    "sigma54_promoter": "TGGCACGNNNNTTGCW",  # Barrios et al. 1999
    "shine_dalgarno": "AGGAGG",  # Shine and Dalgarno 1974
    "anti_16S_end": "TAAGGAGGT",  # complement of the end of 16S rRNA, Shine and Dalgarno 1974
    "LexA": "TACTGTATATATATACAGTA",  # Walker 1984
    "CRP": "AAATGTGATCTAGATCACATTT",  # Berg and von Hippel 1988
    "FNR": "TTGATNNNNATCAA",  # Eiglmeier et al. 1989
    "Fur": "GATAATGATAATCATTATC",  # de Lorenzo et al. 1987
    "PurR": "ACGCAAACGTTTGCGT",  # Rolfes and Zalkin 1988
    "TyrR": "TGTAAANNNNNNTTTACA",  # Pittard and Davidson 1991
    "IHF": "WATCAANNNNTTR",  # Craig and Nash 1984
    "DnaA_box": "TTATCCACA",  # Fuller et al. 1984
    "chi_site": "GCTGGTGG",  # Smith et al. 1981
    "lac_operator": "AATTGTGAGCGGATAACAATT",  # Gilbert and Maxam 1973
    "lambda_operator": "TATCACCGCCAGTGGTA",  # Maniatis et al. 1975
    "T7_promoter": "TAATACGACTCACTATAGGGA",  # Dunn and Studier 1983
    # Coronaviruses
    "SARS_CoV_2_TRS": "ACGAAC",  # core of the transcription-regulating sequence, Kim et al. 2020
    "coronavirus_slippery_site": "TTTAAAC",  # Brierley et al. 1989
    # Yeast
    "Gal4": "CGGNNNNNNNNNNNCCG",  # Giniger et al. 1985
    "Gcn4": "TGACTCA",  # Hill et al. 1986
    "Rap1": "ACACCCATACATT",  # Buchman et al. 1988
    "Reb1": "TTACCCG",  # Liaw and Brandl 1994
    "Abf1": "RTCRYNNNNNACG",  # Della Seta et al. 1990
    "Cbf1": "RTCACRTG",  # Baker et al. 1989
    "MBF": "ACGCGT",  # Lowndes et al. 1991
    "SBF": "CACGAAA",  # Nasmyth 1985
    "Ste12": "TGAAACA",  # Kronstad et al. 1987
    "ARS_consensus": "WTTTAYRTTTW",  # Broach et al. 1983
    "yeast_5_splice_site": "GTATGT",  # Langford et al. 1984
    "yeast_branch_point": "TACTAAC",  # Langford et al. 1984
    # Animals
    "TATA_box": "TATAWAWR",  # Bucher 1990
    "CCAAT_box": "RRCCAATSR",  # Bucher 1990
    "GC_box": "GGGGCGGGGC",  # Briggs et al. 1986
    "Kozak": "GCCRCCATGG",  # Kozak 1987
    "poly_A_signal": "AATAAA",  # Proudfoot and Brownlee 1976
    "5_splice_site": "MAGGTRAGT",  # Mount 1982
    "AP1": "TGASTCA",  # Angel et al. 1987
    "CRE": "TGACGTCA",  # Montminy et al. 1986
    "E_box": "CACGTG",  # Blackwell et al. 1990
    "heat_shock_element": "NGAANNTTCNNGAAN",  # Amin et al. 1988
    "NF_kappa_B": "GGGRNWYYCC",  # Sen and Baltimore 1986
    "p53": "RRRCWWGYYYRRRCWWGYYY",  # el-Deiry et al. 1992
    "GATA": "WGATAR",  # Evans et al. 1988
    "ETS": "ACCGGAAGT",  # Karim et al. 1990
    "CTCF": "CCASYAGRKGGCR",  # Kim et al. 2007
    "NRSF": "TTCAGCACCATGGACAGCGCC",  # Schoenherr and Anderson 1995
    "octamer": "ATGCAAAT",  # Falkner and Zachau 1984
}


def main() -> None:
    """Write the file; a second time gives the same bytes."""
    lines = ["MEME version 4", "", "ALPHABET= ACGT", "", "strands: + -", "", "Background letter frequencies"]
    lines += ["A 0.25 C 0.25 G 0.25 T 0.25", ""]
    for name, consensus in MOTIFS.items():
        lines.append(f"MOTIF {name} {consensus}")
        lines.append(f"letter-probability matrix: alength= 4 w= {len(consensus)} nsites= 20 E= 0")
        lines += [" ".join(f"{share:.6f}" for share in _shares(symbol)) for symbol in consensus]
        lines.append("")
    KNOWN.parent.mkdir(exist_ok=True)
    KNOWN.write_text("\n".join(lines))


def _shares(symbol: str) -> list[float]:
    meant = IUPAC[symbol]
    rest = 0.05 * (4 - len(meant))
    return [(1 - rest) / len(meant) if letter in meant else 0.05 for letter in "ACGT"]


if __name__ == "__main__":
    main()
