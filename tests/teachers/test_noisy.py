"""A teacher with noise."""

import numpy as np
import pytest
from conftest import WordTeacher

from rankdistill.candidates import BM25, Random, mine
from rankdistill.errors import InputError
from rankdistill.teachers import NoisyTeacher, score_candidates


def test_noise_is_as_wide_as_it_says_in_each_pool(collection):
    """Over all pools its deviation is the pool's own times noise; at 0 the scores are the teacher's."""
    candidates = mine(collection, [BM25(10), Random(30)])
    own = score_candidates(WordTeacher(), candidates).scores
    assert np.array_equal(score_candidates(NoisyTeacher(WordTeacher(), 0.0), candidates).scores, own)
    noisy = score_candidates(NoisyTeacher(WordTeacher(), 2.0), candidates).scores
    ends = candidates.offsets[1:-1]
    pools = [pool for pool in zip(np.split(own, ends), np.split(noisy, ends), strict=True) if pool[0].std()]
    z = np.concatenate([(with_noise - without) / without.std() for without, with_noise in pools])
    assert len(z) > 300
    assert np.mean(z) == pytest.approx(0, abs=4 * 2 / np.sqrt(len(z)))
    assert np.std(z) == pytest.approx(2, rel=4 / np.sqrt(2 * len(z)))


def test_a_pool_has_the_same_noise_whatever_is_scored_beside_it(collection):
    teacher = NoisyTeacher(WordTeacher())
    whole = score_candidates(teacher, mine(collection, [BM25(6)]))
    few = score_candidates(teacher, mine(collection, [BM25(6)], limit=5))
    for i, row in enumerate(few.candidates.query_rows):
        j = list(whole.candidates.query_rows).index(row)
        assert all(map(np.array_equal, few.pool(i), whole.pool(j)))


def test_its_fingerprint_follows_teacher_noise_and_seed():
    others = [NoisyTeacher(WordTeacher(), 2.0), NoisyTeacher(WordTeacher(), seed=1), WordTeacher()]
    assert len({one.fingerprint for one in (NoisyTeacher(WordTeacher()), *others)}) == 4
    assert NoisyTeacher(WordTeacher()).fingerprint == NoisyTeacher(WordTeacher(), 1.0).fingerprint


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf")])
def test_noise_is_a_number_from_0(noise):
    with pytest.raises(InputError, match="^noise=.*: it must be a finite number of at least 0"):
        NoisyTeacher(WordTeacher(), noise)
