import dataclasses

import numpy as np
import pytest
from conftest import WordTeacher

from rankdistill.candidates import BM25, Random, mine
from rankdistill.errors import InputError
from rankdistill.runtime.cache import fingerprint
from rankdistill.teachers import BM25Teacher, EnsembleTeacher, score_candidates
from rankdistill.teachers import ensemble as module


class Length:
    """Scores by the length of the document."""

    fingerprint = "length"

    def score(self, queries, documents):
        return np.array([len(d) for d in documents], dtype=np.float32)


QUERIES, DOCUMENTS = ["w1 w2", "w3", "w4 w5"], ["w1 w9 w2", "w4", "w5 w4 w6 w7"]


def ensemble(words, length, order=("words", "length")):
    teachers, weights = {"words": WordTeacher(), "length": Length()}, {"words": words, "length": length}
    return EnsembleTeacher({name: teachers[name] for name in order}, weights)


def test_it_is_the_weighted_sum():
    scores = ensemble(2.0, -0.5).score(QUERIES, DOCUMENTS)
    words = [2 - 3 / 40, 0 - 1 / 40, 2 - 4 / 40]
    assert scores == pytest.approx([2 * words[0] - 4, 2 * words[1] - 1, 2 * words[2] - 5.5], abs=1e-6)
    assert scores.shape == (3,) and scores.dtype == np.float32


def test_one_teacher_of_weight_one_is_that_teacher():
    alone = EnsembleTeacher({"words": WordTeacher()}, {"words": 1.0})
    assert np.array_equal(alone.score(QUERIES, DOCUMENTS), WordTeacher().score(QUERIES, DOCUMENTS))


def test_the_fingerprint_changes_with_weights_and_teachers():
    other = ensemble(1.0, 0.5)
    other.teachers["words"].fingerprint = "other words"
    made = [ensemble(1.0, 0.5), ensemble(0.5, 1.0), ensemble(1.0, 0.25), other]
    made.append(EnsembleTeacher({"words": WordTeacher()}, {"words": 1.0}))
    assert len({teacher.fingerprint for teacher in made} | {"words"}) == 6


def test_the_fingerprint_does_not_depend_on_the_order():
    assert ensemble(1.0, 0.5).fingerprint == ensemble(1.0, 0.5, ("length", "words")).fingerprint


@pytest.mark.parametrize("weights", [{}, {"words": 1.0, "more": 1.0}, {"word": 1.0}])
def test_weights_of_other_names_raise(weights):
    with pytest.raises(InputError, match="teachers are .'words'., weights are for"):
        EnsembleTeacher({"words": WordTeacher()}, weights)


def test_no_teacher_raises():
    with pytest.raises(InputError):
        EnsembleTeacher({}, {})


@pytest.fixture
def candidates(collection):
    return mine(collection, [BM25(6), Random(9)])


class Rounded(WordTeacher):
    """Words, rounded so that scores tie; the same for every document of the first query."""

    fingerprint = "rounded"

    def score(self, queries, documents):
        scores = np.round(super().score(queries, documents))
        return np.where(np.array(queries) == self.first, np.float32(7), scores)


@pytest.fixture
def teachers(candidates):
    made = {"words": WordTeacher(), "rounded": Rounded(), "length": Length()}
    made["rounded"].first = candidates.collection.queries[candidates.query_rows[0]]
    return made


def by_hand(pool, combine):
    """One teacher's column of one query, score by score."""
    if combine == "sum":
        return [float(x) for x in pool]
    if combine == "minmax":
        low, high = float(min(pool)), float(max(pool))
        return [(x - low) / (high - low) if high > low else 0.0 for x in pool]
    above = [sum(y > x for y in pool) for x in pool]
    return [1 / (60 + n + (sum(y == x for y in pool) + 1) / 2) for n, x in zip(above, pool, strict=True)]


@pytest.mark.parametrize("block", [1, 40, 1_000_000])
@pytest.mark.parametrize("combine", ["sum", "minmax", "reciprocal_rank"])
def test_pools_are_combined_score_by_score(candidates, teachers, monkeypatch, combine, block):
    monkeypatch.setattr(module, "BLOCK", block)
    weights = {"words": 0.7, "rounded": -0.2, "length": 2.0}
    scores = EnsembleTeacher(teachers, weights, combine).score_pools(candidates)
    columns = {name: score_candidates(teacher, candidates).scores for name, teacher in teachers.items()}
    for i in range(len(candidates)):
        span = candidates.pool(i)
        expected = sum(weights[n] * np.array(by_hand(columns[n][span], combine)) for n in weights)
        np.testing.assert_allclose(scores[span], expected, rtol=1e-5, atol=1e-6)
    assert scores.dtype == np.float32


def test_ranks_share_their_mean_and_equal_pools_are_0():
    """Were ties broken by position, one of two equal documents would be taught to be better."""
    scores = np.array([3, 5, 3, 1, 9, 2, 2, 2, -1e9, 1e9], np.float32)
    sizes = np.array([4, 1, 3, 2])
    assert module.ranks(scores, sizes).tolist() == [2.5, 1, 2.5, 4, 1, 2, 2, 2, 2, 1]
    assert module.minmax(scores, sizes).tolist() == [0.5, 1, 0.5, 0, 0, 0, 0, 0, 0, 1]
    large = np.array([1e8, 1e8 + 8, 1e8 + 16, 3.4e38, -3.4e38, 0, 2.0**-149, 0], np.float32)
    assert module.minmax(large, np.array([3, 3, 2])).tolist() == [0, 0.5, 1, 1, 0, 0.5, 1, 0]


def test_a_query_without_candidates_has_no_scores(candidates):
    offsets = np.insert(candidates.offsets, [0, 3, len(candidates.offsets)], candidates.offsets[[0, 3, -1]])
    padded = dataclasses.replace(
        candidates, offsets=offsets, query_rows=np.resize(candidates.query_rows, len(offsets) - 1)
    )
    sizes = [size for _, sizes in module.blocks(padded.offsets) for size in sizes]
    assert sizes == np.diff(candidates.offsets).tolist()


def test_every_teacher_has_a_table_that_other_ensembles_use(candidates, teachers):
    n = len(candidates.document_rows)
    table = score_candidates(EnsembleTeacher(teachers, combine="minmax"), candidates)
    assert teachers["words"].pairs == n
    nested = {"minmax": EnsembleTeacher(teachers, combine="minmax"), "words": teachers["words"]}
    both = score_candidates(EnsembleTeacher(nested, {"minmax": 1.0, "words": 0.0}), candidates)
    assert teachers["words"].pairs == n
    assert np.array_equal(both.scores, table.scores)


def test_a_killed_ensemble_keeps_what_its_teachers_scored(candidates, teachers):
    def killed(queries, documents):
        raise KeyboardInterrupt

    teachers["length"].score = killed
    with pytest.raises(KeyboardInterrupt):
        score_candidates(EnsembleTeacher(teachers), candidates)
    del teachers["length"].score
    score_candidates(EnsembleTeacher(teachers), candidates)
    assert teachers["words"].pairs == len(candidates.document_rows)


def test_without_weights_it_is_the_mean(candidates, teachers):
    thirds = dict.fromkeys(teachers, 1 / 3)
    scores = [EnsembleTeacher(teachers, weights).score_pools(candidates) for weights in (None, thirds)]
    assert np.array_equal(*scores)


def test_a_sum_of_pairs_is_the_sum_of_pools(candidates):
    """Bit for bit: tables that an earlier version scored in pairs stay what they were."""
    pairs = list(candidates.pairs(0, len(candidates.document_rows)))
    made = ensemble(1.3, -0.7)
    assert np.array_equal(made.score(*zip(*pairs, strict=True)), made.score_pools(candidates))
    expected = fingerprint([[-0.7, "length"], [1.3, "words"]])
    assert made.fingerprint == expected, "a sum's fingerprint names its tables in users' caches"


def test_the_fingerprint_changes_with_how_teachers_are_combined():
    def made(*how):
        return EnsembleTeacher({"words": WordTeacher()}, {"words": 1.0}, *how).fingerprint

    ways = [("sum",), ("minmax",), ("reciprocal_rank",), ("reciprocal_rank", 10)]
    assert len({made(*way) for way in ways}) == 4
    assert made("minmax", 10) == made("minmax")


def test_pairs_have_no_ranks():
    with pytest.raises(InputError, match="whole pool; take score_candidates"):
        EnsembleTeacher({"words": WordTeacher()}, combine="minmax").score(QUERIES, DOCUMENTS)
    with pytest.raises(InputError, match="whole pool; take score_candidates"):
        EnsembleTeacher({"bm25": BM25Teacher()}).score(QUERIES, DOCUMENTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"combine": "mean"}, "teacher.combine='mean': it must be sum, minmax or reciprocal_rank"),
        ({"constant": -1}, "teacher.constant=-1: it must be 0 or more"),
        ({"weights": {"words": float("nan")}}, "teacher.weights.words=nan: it must be a finite number"),
        ({"weights": {"words": "1"}}, "teacher.weights.words='1': it must be a finite number"),
        ({"teachers": {"words": None}}, "teacher.teachers.words: NoneType is not a teacher; leave it out"),
    ],
)
def test_bad_settings_raise(change, message):
    with pytest.raises(InputError, match=message):
        EnsembleTeacher(**({"teachers": {"words": WordTeacher()}} | change))
