from dataclasses import replace

import numpy as np
import pytest
from conftest import rows_of

from rankdistill.candidates import BM25
from rankdistill.errors import InputError
from rankdistill.scores import write_scores
from rankdistill.teachers import FileTeacher, score_split


@pytest.fixture
def teacher(scored, tmp_path):
    write_scores(scored, tmp_path / "scores.csv")
    return FileTeacher(str(tmp_path / "scores.csv"))


def test_it_brings_the_queries_of_a_split(teacher, scored):
    table = teacher.table(scored.collection, "train")
    assert list(rows_of(table)) == ["q0", "q1"]
    assert rows_of(table) == {q: pool for q, pool in rows_of(scored).items() if q != "q2"}
    assert list(rows_of(teacher.table(scored.collection, "test"))) == ["q2"]
    assert teacher.table(scored.collection, "test").teacher == table.teacher != ""


def test_training_sees_no_labels_of_the_test_split(small, tmp_path):
    """q0 is in both splits: what only the test's qrels call relevant is no positive in training."""
    qrels = {"train": {"q0": {"d0": 1}, "q1": {"d5": 1}}, "test": {"q0": {"d4": 1}, "q1": {"d1": 1}}}
    both = replace(small, qrels=qrels)
    (tmp_path / "s.csv").write_text("q0,d0,1\nq0,d4,2\nq1,d1,3\nq1,d2,4\n")
    teacher = FileTeacher(str(tmp_path / "s.csv"))
    assert rows_of(teacher.table(both, "train")) == {"q0": {"d0": (1, True), "d4": (2, False)}}
    assert rows_of(teacher.table(both, "test")) == {
        "q0": {"d0": (1, False), "d4": (2, True)},
        "q1": {"d1": (3, True), "d2": (4, False)},
    }
    assert (teacher.covers(both, "train"), teacher.covers(both, "test")) == (1, 2)


def test_nothing_is_mined_for_it(teacher, scored):
    class Never:
        def retrieve(self, *_):
            raise AssertionError

    table = score_split(teacher, [Never()], scored.collection, "train")
    assert rows_of(table) == rows_of(teacher.table(scored.collection, "train"))


@pytest.mark.parametrize("covered", [16, 9])
def test_a_limit_draws_as_mining_does_among_those_that_have_scores(covered, table, tmp_path):
    """With all queries in the file the drawn ones are those that another teacher would see."""
    rows = table.candidates.query_rows[:covered]
    write_scores(table.take(np.arange(covered)), tmp_path / "s.json")
    found = FileTeacher(str(tmp_path / "s.json")).table(table.collection, "train", 5, seed=3)
    drawn = np.sort(np.random.default_rng(3).choice(rows, 5, replace=False))
    assert found.candidates.query_rows.tolist() == drawn.tolist()
    if covered == 16:
        mined = table.collection.query_rows("train", 5, 3)
        assert found.candidates.query_rows.tolist() == mined.tolist()
    assert rows_of(found) == {q: p for q, p in rows_of(table).items() if q in rows_of(found)}


def test_other_teachers_score_what_is_mined(collection):
    from conftest import WordTeacher

    table = score_split(WordTeacher(), [BM25(5)], collection, "test", 3)
    assert len(table) == 3 and table.teacher == "words"


def test_what_it_has_no_scores_for_is_said(scored, tmp_path):
    collection = scored.collection
    write_scores(scored.take(np.array([0, 1])), tmp_path / "scores.csv")
    teacher = FileTeacher(str(tmp_path / "scores.csv"))
    assert teacher.covers(collection, "train") == 2 and teacher.covers(collection, "test") == 0
    with pytest.raises(InputError, match="scores.csv: no scores of queries of split 'test' of small"):
        teacher.table(collection, "test")
    with pytest.raises(InputError, match="no split 'dev'"):
        teacher.table(collection, "dev")
    with pytest.raises(InputError, match="limit=0: it must be 1 or more"):
        teacher.table(collection, "train", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "nowhere.csv"}, "nowhere.csv: no such file"),
        ({"path": "nowhere.parquet"}, "nowhere.parquet: no such file"),
        ({"path": "a.jsonl"}, "its name doesn't say the format"),
        ({"path": "a.csv", "format": "xml"}, "format='xml': it must be one of columns, csv"),
        ({"path": "a.csv", "options": {"by": "rank"}}, "by: not an option of csv; available: none"),
        ({"path": "a.trec", "options": {"with": "rank"}}, "with: not an option of trec; available: by"),
    ],
)
def test_what_is_wrong_shows_before_anything_is_read(arguments, message):
    with pytest.raises(InputError, match=message):
        FileTeacher(**arguments)
