"""A dense teacher scores most of a collection from stored embeddings, a few pairs by themselves."""

import numpy as np
import pytest

from rankdistill.candidates import BM25, Dense, Random, mine
from rankdistill.students import embed, load_student
from rankdistill.teachers import DenseTeacher, score_candidates


@pytest.fixture
def embedded(monkeypatch):
    """How many documents were embedded, call by call."""
    counts, plain = [], embed._embed

    def counting(model, kind, texts, progress):
        if kind == "document":
            counts.append(len(texts))
        return plain(model, kind, texts, progress)

    monkeypatch.setattr(embed, "_embed", counting)
    return counts


def test_mining_and_every_table_use_the_same_embeddings(collection, student_folder, embedded):
    teacher = DenseTeacher(student_folder, max_length=None)
    dense = Dense(load_student(student_folder), 5)
    tables = [
        score_candidates(teacher, mine(collection, [dense, Random(len(collection.documents) - 5)], split))
        for split in ("train", "test")
    ]
    assert embedded == [len(collection.documents)]
    for table in tables:
        queries, documents = zip(*table.candidates.pairs(0, len(table.scores)), strict=True)
        np.testing.assert_allclose(table.scores, teacher.score(queries, documents), atol=1e-5)


def test_few_candidates_are_embedded_alone(collection, student_folder, embedded):
    pools = mine(collection, [BM25(1)], "train", limit=2)
    rows = np.unique(pools.document_rows)
    assert 2 * len(rows) < len(collection.documents)
    score_candidates(DenseTeacher(student_folder), pools)
    assert embedded == [len(rows)]
