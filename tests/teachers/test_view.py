"""A teacher that reads other texts than the student."""

import numpy as np
import pytest
from conftest import WordTeacher

from rankdistill.candidates import BM25, mine
from rankdistill.data import View
from rankdistill.errors import InputError
from rankdistill.teachers import DenseTeacher, ViewTeacher, score_candidates


def test_it_scores_the_texts_of_its_view(collection, tmp_path):
    """Some queries written out in a file, documents behind a prompt; the table is the collection's own."""
    candidates = mine(collection, [BM25(6)])
    written = {collection.query_ids[i]: f"{collection.documents[i]} more" for i in range(0, 24, 2)}
    file = tmp_path / "queries.tsv"
    file.write_text("".join(f"{name}\t{text}\n" for name, text in written.items()))
    table = score_candidates(ViewTeacher(WordTeacher(), View(file, document_prompt="w3 ")), candidates)
    owners = np.repeat(candidates.query_rows, np.diff(candidates.offsets))
    queries = [written.get(collection.query_ids[row], collection.queries[row]) for row in owners]
    documents = [f"w3 {collection.documents[row]}" for row in candidates.document_rows]
    assert table.scores == pytest.approx(WordTeacher().score(queries, documents))
    assert table.collection is collection
    own = score_candidates(WordTeacher(), candidates)
    assert own.teacher != table.teacher and not np.array_equal(own.scores, table.scores)


def test_its_fingerprint_changes_with_any_text(tmp_path):
    file = tmp_path / "queries.tsv"
    file.write_text("q0\ta b\n")
    views = [
        View(),
        View(file),
        View(query_prompt="a"),
        View(document_prompt="a"),
        View(documents={"d0": "a b"}),
    ]
    found = [ViewTeacher(WordTeacher(), view).fingerprint for view in views]
    file.write_text("q0\ta c\n")
    found.append(ViewTeacher(WordTeacher(), views[1]).fingerprint)
    assert len(set(found)) == len(found)
    with pytest.raises(InputError, match="teacher: str has neither score"):
        ViewTeacher("minilm", View())


def test_what_a_teacher_keeps_of_earlier_texts_is_forgotten_when_asked(student_folder):
    teacher = DenseTeacher(student_folder, max_length=64)
    teacher.score(["w1", "w2"], ["w3", "w4 w5"])
    assert teacher._kept.size == 4
    teacher.forget()
    assert teacher._kept.size == len(teacher._kept) == 0
