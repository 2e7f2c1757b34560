import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import WordTeacher

from rankdistill.candidates import BM25, Random, mine
from rankdistill.errors import InputError
from rankdistill.teachers import EnsembleTeacher, score_candidates, scoring

BLOCK = 50


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch, tmp_path):
    monkeypatch.setattr(scoring, "BLOCK", BLOCK)
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))


@pytest.fixture
def candidates(collection):
    found = mine(collection, [BM25(10), Random(10)])
    assert len(found.document_rows) > 3 * BLOCK and len(found.document_rows) % BLOCK
    return found


class Failing(WordTeacher):
    """Words, until the pair of that number; there it does what it was told."""

    def __init__(self, at, what):
        super().__init__()
        self.at, self.what = at, what

    def score(self, queries, documents):
        scores = super().score(queries, documents)
        return self.what(scores) if self.pairs > self.at else scores


def stop(scores):
    raise KeyboardInterrupt


def put(value):
    def change(scores):
        scores[7] = value
        return scores

    return change


def kept(tmp_path):
    beside = (".lock", ".sha256")
    return sorted(file.suffix for file in (tmp_path / "scores").iterdir() if file.suffix not in beside)


def test_scores_are_the_teachers_in_the_order_of_the_candidates(candidates):
    table = score_candidates(WordTeacher(), candidates)
    pairs = [
        (candidates.collection.queries[row], candidates.collection.documents[document])
        for i, row in enumerate(candidates.query_rows)
        for document in candidates.document_rows[candidates.pool(i)]
    ]
    assert np.array_equal(table.scores, WordTeacher().score(*zip(*pairs, strict=True)))
    assert table.candidates.fingerprint == candidates.fingerprint and table.teacher == "words"


def test_scoring_twice_scores_once(candidates, caplog):
    caplog.set_level(logging.INFO)
    first, second = WordTeacher(), WordTeacher()
    tables = [score_candidates(teacher, candidates) for teacher in (first, second)]
    assert [first.pairs, second.pairs] == [len(candidates.document_rows), 0]
    assert np.array_equal(tables[0].scores, tables[1].scores)
    assert "reusing teacher scores" in caplog.text


def test_a_killed_run_goes_on_where_it_was(candidates, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(KeyboardInterrupt):
        score_candidates(Failing(BLOCK, stop), candidates)
    assert kept(tmp_path) == [".part"], "half a table must not be taken for one"
    second = WordTeacher()
    resumed = score_candidates(second, candidates)
    assert second.pairs == len(candidates.document_rows) - BLOCK
    assert f"going on after {BLOCK} of {len(candidates.document_rows)} pairs" in caplog.text
    assert kept(tmp_path) == [".arrow"]
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path / "cold"))
    assert np.array_equal(resumed.scores, score_candidates(WordTeacher(), candidates).scores)


def test_what_a_process_killed_at_the_end_left_is_removed(candidates, tmp_path):
    score_candidates(WordTeacher(), candidates)
    (table,) = (tmp_path / "scores").glob("*.arrow")
    table.with_suffix(".part").write_bytes(b"left")
    score_candidates(WordTeacher(), candidates)
    assert kept(tmp_path) == [".arrow"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_from_the_start_is_named(candidates, tmp_path, monkeypatch):
    """NumPy's tofile closes the file without a word, and an empty one would be a table of no scores."""
    real = open

    def full(path, mode="r", *rest, **options):
        return real(
            "/dev/full" if str(path).endswith(".part") and "w" in mode else path, mode, *rest, **options
        )

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(InputError, match="no space is left on the disk"):
        score_candidates(WordTeacher(), candidates)


def test_a_part_of_another_length_is_not_gone_on_with(candidates, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        score_candidates(Failing(BLOCK, stop), candidates)
    (part,) = (tmp_path / "scores").glob("*.part")
    part.write_bytes(part.read_bytes()[:-4])
    teacher = WordTeacher()
    score_candidates(teacher, candidates)
    assert teacher.pairs == len(candidates.document_rows)


@pytest.mark.parametrize("value", [0, np.inf, 1.5])
def test_what_a_power_cut_left_in_a_part_is_scored_again(candidates, tmp_path, value):
    """A hole of zeros would be scores of 0, and an inf would stop every later start."""
    expected = WordTeacher().score(*zip(*candidates.pairs(0, len(candidates.document_rows)), strict=True))
    with pytest.raises(KeyboardInterrupt):
        score_candidates(Failing(2 * BLOCK, stop), candidates)
    (part,) = (tmp_path / "scores").glob("*.part")
    raw = bytearray(part.read_bytes())
    raw[BLOCK + 12 : BLOCK + 32] = np.full(5, value, np.float32).tobytes()
    part.write_bytes(raw)
    second = WordTeacher()
    assert np.array_equal(score_candidates(second, candidates).scores, expected)
    assert second.pairs == len(expected) - BLOCK, "the other block is kept"


def test_a_part_that_is_one_hole_holds_nothing(candidates, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        score_candidates(Failing(BLOCK, stop), candidates)
    (part,) = (tmp_path / "scores").glob("*.part")
    part.write_bytes(bytes(part.stat().st_size))
    second = WordTeacher()
    score_candidates(second, candidates)
    assert second.pairs == len(candidates.document_rows)


def test_a_teacher_of_ones_own_without_a_fingerprint_is_told_so(candidates):
    class Nameless:
        def score(self, queries, documents):
            return np.zeros(len(queries))

    with pytest.raises(InputError, match="^teacher: Nameless needs a fingerprint, a text that changes"):
        score_candidates(Nameless(), candidates)
    Nameless.fingerprint = None
    with pytest.raises(InputError, match="needs a fingerprint"):
        EnsembleTeacher({"a": Nameless(), "b": WordTeacher()}).fingerprint  # noqa: B018
    with pytest.raises(InputError, match="^teacher: object has neither score"):
        score_candidates(object(), candidates)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_raises_with_the_query_and_is_not_kept(candidates, tmp_path, value):
    query = [text for text, _ in candidates.pairs(BLOCK, 2 * BLOCK)][7]
    with pytest.raises(InputError, match=f"teacher: score {value} for query '{query}'"):
        score_candidates(Failing(BLOCK, put(value)), candidates)
    assert kept(tmp_path) == [".part"]
    repaired = WordTeacher()
    assert np.isfinite(score_candidates(repaired, candidates).scores).all()
    assert repaired.pairs == len(candidates.document_rows) - BLOCK


@pytest.mark.parametrize(
    "what",
    [
        lambda scores: scores[:-1],
        lambda scores: scores[:, None],
        lambda scores: scores[:0],
    ],
)
def test_scores_of_another_shape_raise(candidates, what):
    """(n, 1) against (n,) would broadcast."""
    with pytest.raises(InputError, match="one a pair"):
        score_candidates(Failing(0, what), candidates)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_teacher_may_give_tensors(candidates, kind):
    """A model's output as it is: with a gradient, and in bf16, which NumPy has not."""
    whole = score_candidates(WordTeacher(), candidates).scores
    given = Failing(0, lambda scores: torch.tensor(scores, dtype=kind, requires_grad=True))
    given.fingerprint = "tensors"
    expected = torch.tensor(np.array(whole)).to(kind).float().tolist()
    first = score_candidates(given, candidates).scores[:BLOCK]
    assert first.tolist() == expected[:BLOCK]


@pytest.mark.parametrize(
    ("what", "found"),
    [
        (lambda scores: (score for score in scores), "a generator that is not numeric"),
        (lambda scores: ["high"] * len(scores), "could not convert string to float: 'high'"),
        (lambda scores: dict(enumerate(scores)), "a dict that is not numeric"),
    ],
)
def test_scores_that_are_no_numbers_raise(candidates, what, found):
    with pytest.raises(InputError, match=f"^teacher: .*{found}.*one a pair"):
        score_candidates(Failing(0, what), candidates)


def test_every_teacher_and_candidate_set_has_a_table_of_its_own(candidates, collection):
    other = WordTeacher()
    other.fingerprint = "other"
    for teacher, pools in (
        (WordTeacher(), candidates),
        (other, candidates),
        (WordTeacher(), mine(collection, [])),
    ):
        score_candidates(teacher, pools)
        assert teacher.pairs == len(pools.document_rows)


def test_a_cache_that_cannot_be_written_raises_before_anything_is_scored(candidates, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path / "file"))
    teacher = WordTeacher()
    with pytest.raises(InputError, match="RANKDISTILL_CACHE"):
        score_candidates(teacher, candidates)
    assert teacher.pairs == 0


class Pools:
    """Scores whole pools, with what it was told."""

    fingerprint = "pools"

    def __init__(self, what):
        self.what = what

    def score_pools(self, candidates):
        return self.what(np.arange(len(candidates.document_rows)))


def test_a_teacher_may_score_whole_pools(candidates, tmp_path):
    table = score_candidates(Pools(lambda numbers: numbers / 2), candidates)
    assert table.scores.dtype == np.float32
    assert table.scores.tolist() == [i / 2 for i in range(len(candidates.document_rows))]
    assert np.array_equal(score_candidates(Pools(stop), candidates).scores, table.scores)
    assert kept(tmp_path) == [".arrow"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda numbers: numbers[1:], "scores for"),
        (lambda numbers: numbers[:, None], "scores for"),
        (lambda numbers: np.where(numbers == 7, np.nan, numbers), "nan for query"),
    ],
)
def test_pools_scored_wrongly_raise_and_are_not_kept(candidates, tmp_path, what, message):
    with pytest.raises(InputError, match=message):
        score_candidates(Pools(what), candidates)
    assert kept(tmp_path) == []
