"""What a table read from a file means, shown with CSV."""

import logging
import os

import pytest
from conftest import rows_of

from rankdistill.errors import InputError
from rankdistill.scores.formats import read_csv
from rankdistill.scores.formats.triples import chunk, to_table


def csv(folder, *lines):
    (folder / "s.csv").write_text("".join(f"{line}\n" for line in lines))
    return folder / "s.csv"


def test_candidates_are_the_files_and_labels_the_collections(small, tmp_path):
    """d5 is judged not relevant; d3 is relevant to another query."""
    found = read_csv(csv(tmp_path, "q0,d3,3", "q0,d5,2", "q0,d0,1"), small)
    assert rows_of(found) == {"q0": {"d0": (1, True), "d3": (3, False), "d5": (2, False)}}
    assert found.candidates.ranks["file"].tolist() == [2, 0, 1]
    assert "file 3" in repr(found.candidates) and "positive 1" in repr(found.candidates)


def test_lines_of_a_query_may_be_anywhere(small, tmp_path):
    found = read_csv(csv(tmp_path, "q2,d3,1", "q0,d0,2", "q2,d0,3", "q0,d1,4"), small)
    assert rows_of(found) == {
        "q0": {"d0": (2, True), "d1": (4, False)},
        "q2": {"d0": (3, False), "d3": (1, True)},
    }
    assert found.candidates.ranks["file"].tolist() == [0, 1, 1, 0]


def test_a_relevant_document_without_a_score_is_in_no_pool(small, tmp_path, caplog):
    """To invent a score for it would train on the invention."""
    with caplog.at_level(logging.WARNING):
        found = read_csv(csv(tmp_path, "q1,d1,1", "q1,d4,0"), small)
    assert rows_of(found) == {"q1": {"d1": (1, True), "d4": (0, False)}}
    assert "1 relevant documents of its queries have no score there" in caplog.text


def test_queries_that_teach_nothing_are_left_out_and_counted(small, tmp_path, caplog):
    """q0 has one candidate, q2 no scored relevant one."""
    with caplog.at_level(logging.WARNING):
        found = read_csv(csv(tmp_path, "q0,d0,1", "q1,d1,1", "q1,d0,2", "q2,d4,1", "q2,d5,1"), small)
    assert list(rows_of(found)) == ["q1"]
    assert "left out 2 of 3 queries" in caplog.text


def test_if_none_is_left_it_says_why(small, tmp_path):
    with pytest.raises(
        InputError, match="s.csv: none of its 1 queries has two scored documents, one of them"
    ):
        read_csv(csv(tmp_path, "q0,d0,1"), small)


def test_unknown_ids_are_named_and_counted(small, tmp_path, caplog):
    path = csv(tmp_path, "q0,d0,1", "q0,d1,1", "q9,d0,1", "q0,x,1", "q0,x,1", "q0,y,1")
    with pytest.raises(InputError, match="s.csv: 1 scores of queries that small lacks: 'q9'; .*invalid=skip"):
        read_csv(path, small)
    with caplog.at_level(logging.WARNING):
        found = read_csv(path, small, invalid="skip")
    assert rows_of(found) == {"q0": {"d0": (1, True), "d1": (1, False)}}
    assert "skipped 3 scores of documents that small lacks: 'x', 'y'" in caplog.text


def test_what_is_of_another_collection_says_so(small, tmp_path):
    """Whatever ``invalid`` says: there is nothing to keep."""
    for lines, kind in ((["x,d0,1"], "queries"), (["q0,x,1"], "documents")):
        with pytest.raises(InputError, match=f"s.csv: none of its {kind} is in small: 'x'"):
            read_csv(csv(tmp_path, *lines), small, invalid="skip")


@pytest.mark.parametrize("score", ["nan", "inf", "-inf", "1e300"])
def test_a_score_that_is_not_finite_is_named(score, small, tmp_path):
    """1e300 is beyond float32, in which scores are kept."""
    with pytest.raises(InputError, match="s.csv: score .*(nan|inf|3.4e38,) for query 'q0', document 'd1'"):
        read_csv(csv(tmp_path, "q0,d0,1", f"q0,d1,{score}"), small)


def test_a_pair_that_appears_twice(small, tmp_path, caplog):
    """Margin files repeat positives, scored in another batch each time; other scores are a fault."""
    found = read_csv(csv(tmp_path, "q0,d0,1", "q0,d1,3", "q0,d0,1.001"), small)
    assert rows_of(found) == {"q0": {"d0": (1, True), "d1": (3, False)}}
    path = csv(tmp_path, "q0,d0,1", "q0,d1,3", "q0,d0,1.5")
    with pytest.raises(
        InputError, match="1 pairs have scores that differ, such as query 'q0', document 'd0': 1 and 1.5"
    ):
        read_csv(path, small)
    with caplog.at_level(logging.WARNING):
        assert rows_of(read_csv(path, small, invalid="skip")) == rows_of(found)
    assert "kept the first" in caplog.text


def test_a_wrong_choice_is_named(small):
    with pytest.raises(InputError, match="invalid='drop': it must be 'error' or 'skip'"):
        to_table([], small, "s", invalid="drop")


def test_other_scores_have_another_fingerprint(small, tmp_path):
    """Else a run would go on from a checkpoint of other scores."""
    one, two, again = (
        read_csv(csv(tmp_path, "q0,d0,1", f"q0,d1,{score}"), small).teacher for score in (1, 2, 1)
    )
    assert one == again != two and one.startswith("file ")


def test_a_missing_id_is_unknown(small):
    with pytest.raises(InputError, match="documents that small lacks: ''"):
        to_table([chunk(["q0", "q0"], ["d0", None], [1, 2])], small, "s")


@pytest.mark.parametrize(
    ("scores", "tied"), [((1700000005, 1700000004), 1), ((1e-50, 2e-50), 1), ((1, 1), 0)]
)
def test_scores_that_single_precision_cannot_tell_apart_are_said(scores, tied, small, tmp_path, caplog):
    lines = [f"q0,{document},{score}\n" for document, score in zip(("d0", "d4"), scores, strict=True)]
    (tmp_path / "s.csv").write_text("".join(lines))
    read_csv(tmp_path / "s.csv", small)
    said = "s.csv: 1 of 2 scores differ from another of their query by less than single precision holds"
    assert [said in message for message in caplog.messages if "single precision" in message] == [True] * tied


def test_a_pipe_is_no_file_of_scores(small, tmp_path):
    """It can be read once, and this is read twice."""
    os.mkfifo(tmp_path / "s.csv")
    with pytest.raises(
        InputError, match="s.csv: not a regular file, and it is read twice; write it to the disk"
    ):
        read_csv(tmp_path / "s.csv", small)


def test_lines_are_counted_through_a_cell_of_two(small, tmp_path):
    text = 'query_id,document_id,score,text\nq0,d0,1,"first\nsecond"\nq0,d4,n/a,x\n'
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(InputError, match="s.csv:4: expected .*, whose score is not a number"):
        read_csv(tmp_path / "s.csv", small)
    (tmp_path / "s.csv").write_text(text.replace("n/a", "2"))
    assert rows_of(read_csv(tmp_path / "s.csv", small))["q0"]
