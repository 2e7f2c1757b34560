"""Positives by the teacher's scores, held against a loop over the pools."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from conftest import WordTeacher
from sentence_transformers import SentenceTransformer

from rankdistill.candidates import BM25, Random, mine
from rankdistill.errors import InputError
from rankdistill.losses import KLDivergence
from rankdistill.samplers import RandomSampler
from rankdistill.scores import relabelled
from rankdistill.teachers import score_candidates
from rankdistill.training import DistillationTrainer, training_arguments
from rankdistill.training.refresh import Refresh


def pools_of(table):
    """Query row -> {document row: (score, positive)}."""
    pools = (zip(*table.pool(i), strict=True) for i in range(len(table)))
    made = [{int(row): (float(score), bool(label)) for row, score, label in pool} for pool in pools]
    return dict(zip(table.candidates.query_rows.tolist(), made, strict=True))


def oracle(table, how, margin):
    made = {}
    for query, pool in pools_of(table).items():
        positives = [score for score, positive in pool.values() if positive]
        above = [d for d, (score, _) in pool.items() if positives and score > max(positives) + margin]
        new = {d: (score, positive or d in above) for d, (score, positive) in pool.items()}
        if how == "replace" and above and len(pool) - len(positives) > 1:
            new = {d: (score, d in above) for d, (score, _) in pool.items() if not pool[d][1]}
        made[query] = new
    return made


@pytest.fixture
def doubtful(table):
    """The table, its scores drawn again: for many a query some are above the positive's."""
    return replace(table, scores=np.random.default_rng(0).normal(size=len(table.scores)).astype(np.float32))


@pytest.mark.parametrize("how", ["add", "replace"])
@pytest.mark.parametrize("margin", [0.0, 0.5, 1.5, 100.0])
def test_what_is_above_all_positives_by_the_margin_is_positive(doubtful, how, margin):
    found = relabelled(doubtful, how, margin)
    expected = oracle(doubtful, how, margin)
    assert pools_of(found) == expected
    assert (expected == pools_of(doubtful)) == (margin == 100)
    assert found.candidates.ranks.keys() == doubtful.candidates.ranks.keys()
    assert found.teacher == doubtful.teacher


def test_by_hand(scored):
    """q1: d1 is relevant, 0.1; d3 is 0.23 above it and d2 0.05 below."""
    one = scored.take([1])
    one = replace(one, candidates=replace(one.candidates, positive=np.array([True, False, False])))
    one = replace(one, scores=np.array([0.1, 0.05, 1 / 3]))
    added, replaced = relabelled(one, "add", 0.2), relabelled(one, "replace", 0.2)
    assert added.candidates.document_rows.tolist() == [1, 2, 3]
    assert added.candidates.positive.tolist() == [True, False, True]
    assert replaced.candidates.document_rows.tolist() == [2, 3]
    assert replaced.candidates.positive.tolist() == [False, True]
    assert relabelled(one, "replace", 0.25).candidates.positive.tolist() == [True, False, False]


def test_a_pool_of_two_keeps_its_positive(scored):
    """q0: d4 2.5 is above d0 -1.25, which is relevant; without it d4 would be alone."""
    found = relabelled(scored.take([0]), "replace")
    assert pools_of(found) == {0: {0: (-1.25, True), 4: (2.5, True)}}


def test_a_positives_text_leaves_with_it_and_is_never_a_new_one(copied):
    table = score_candidates(WordTeacher(), mine(copied, [BM25(10), Random(10)]))
    assert table.candidates.copies
    rng = np.random.default_rng(1)
    noisy = replace(table, scores=rng.normal(size=len(table.scores)).astype(np.float32))
    for how in ("add", "replace"):
        found = relabelled(noisy, how)
        for i, places in table.candidates.copies.items():
            twins = set(table.pool(i)[0][places].tolist())
            rows, _, positive = found.pool(i)
            assert not twins & set(rows[positive].tolist())
            replaced = set(table.pool(i)[0][table.pool(i)[2]].tolist()) - set(rows.tolist())
            assert not replaced or not twins & set(rows.tolist())


def test_wrong_labels_are_corrected_where_the_teacher_knows_better(table):
    """A third of the queries have another document's label; the teacher puts the right one above it."""
    candidates = table.candidates
    positive, changed = np.array(candidates.positive), {}
    rng = np.random.default_rng(2)
    for i in range(0, len(table), 3):
        span = candidates.pool(i)
        best = int(np.argmax(table.scores[span]))
        if candidates.positive[span].sum() != 1 or not candidates.positive[span][best]:
            continue
        wrong = int(rng.choice(np.flatnonzero(table.scores[span] < table.scores[span][best] - 1)))
        positive[span] = np.arange(span.stop - span.start) == wrong
        changed[i] = int(candidates.document_rows[span][best])
    noisy = replace(table, candidates=replace(candidates, positive=positive))
    assert len(changed) > 4
    for how in ("add", "replace"):
        found = relabelled(noisy, how, 0.5)
        for i, right in changed.items():
            rows, _, labels = found.pool(i)
            assert labels[list(rows).index(right)]


def test_the_trainer_shows_the_new_positives(doubtful, student_folder, tmp_path, caplog):
    caplog.set_level(logging.INFO)

    def trainer(**options):
        student = SentenceTransformer(student_folder, device="cpu")
        arguments = training_arguments(str(tmp_path), max_steps=1)
        return DistillationTrainer(
            student, doubtful, RandomSampler(1, 3), KLDivergence(), arguments, **options
        )

    shown = trainer(relabel="replace", relabel_margin=0.5).train_dataset.table
    assert pools_of(shown) == oracle(doubtful, "replace", 0.5)
    assert "documents of" in caplog.text and "are positives by the teacher" in caplog.text
    with pytest.raises(InputError, match="^relabel: pools that are renewed have the qrels' positives"):
        trainer(relabel="add", refresh=Refresh(steps=1, n=4))


@pytest.mark.parametrize(
    ("how", "margin", "message"),
    [
        ("flip", 0.0, "relabel='flip': it must be add or replace, or null for none"),
        ("add", -1.0, "relabel_margin=-1.0: it must be 0 or more"),
        ("add", np.nan, "relabel_margin=nan: it must be 0 or more"),
        ("add", True, "relabel_margin=True: it must be 0 or more"),
    ],
)
def test_other_settings_are_refused(doubtful, how, margin, message):
    with pytest.raises(InputError, match=message):
        relabelled(doubtful, how, margin)
