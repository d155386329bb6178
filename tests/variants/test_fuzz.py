"""A short run of the fuzzer; `python tests/variants/fuzz.py` is the long one."""

from fuzz import fuzz


def test_mutated_files_end_in_scores_or_in_a_sentence(tmp_path):
    ends, failures = fuzz(seed=3, first=0, count=200, place=tmp_path)
    assert failures == []
    assert ends["scores"] > 40
    assert ends["sentence"] > 40
