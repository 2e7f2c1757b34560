"""Pairwise preferences from a file: what the table has of them, and what no file may say."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import rows_of

from rankdistill.errors import InputError
from rankdistill.scores import ScoreTable, read_scores, write_scores
from rankdistill.teachers import FileTeacher

ROWS = [
    {"query_id": "q0", "document_id_a": "d0", "document_id_b": "d4", "probability": 0.75},
    {"query_id": "q1", "document_id_a": "d3", "document_id_b": "d1", "probability": 0.125},
    {"query_id": "q0", "document_id_a": "d4", "document_id_b": "d0", "probability": 0.5},
    {"query_id": "q0", "document_id_a": "d5", "document_id_b": "d0", "probability": 0},
    {"query_id": "q1", "document_id_a": "d1", "document_id_b": "d5", "probability": 1},
]


def written(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".arrow":
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs_of(table):
    """{query: [(document, document, probability)]}, by ids and in order."""
    ids, candidates = table.collection.document_ids, table.candidates
    found = {}
    for i, query in enumerate(candidates.query_rows):
        rows = candidates.document_rows[candidates.pool(i)]
        found[table.collection.query_ids[query]] = [
            (ids[rows[a]], ids[rows[b]], float(p)) for a, b, p in zip(*table.pairs.of(i), strict=True)
        ]
    return found


@pytest.mark.parametrize("name", ["p.jsonl", "p.parquet", "p.arrow"])
def test_pairs_are_the_files_and_scores_their_means(name, small, tmp_path):
    found = read_scores(written(tmp_path / name, ROWS), small, "preferences")
    assert pairs_of(found) == {
        "q0": [("d0", "d4", 0.75), ("d4", "d0", 0.5), ("d5", "d0", 0)],
        "q1": [("d3", "d1", 0.125), ("d1", "d5", 1)],
    }
    assert rows_of(found) == {
        "q0": {"d0": (0.75, True), "d4": (0.375, False), "d5": (0, False)},
        "q1": {"d1": (0.9375, True), "d3": (0.125, False), "d5": (0, False)},
    }
    assert found.candidates.ranks["file"].tolist() == [0, 1, 2, 1, 0, 2]


@pytest.mark.parametrize("name", ["again.jsonl.gz", "again.parquet", "again.arrow", "again.feather"])
def test_what_is_written_reads_the_same(name, small, tmp_path):
    thirds = [row | {"probability": 1 / 3 + i / 7} for i, row in enumerate(ROWS)]
    table = read_scores(written(tmp_path / "p.jsonl", thirds), small, "preferences")
    write_scores(table, tmp_path / name, "preferences")
    again = read_scores(tmp_path / name, small, "preferences")
    assert pairs_of(again) == pairs_of(table)
    np.testing.assert_allclose(again.scores, table.scores, rtol=1e-6)
    write_scores(table, tmp_path / "table.arrow")
    kept = read_scores(tmp_path / "table.arrow", small)
    assert pairs_of(kept) == pairs_of(table) and kept.digests == table.digests and kept.mapped is not None


def test_preferred_and_rejected_need_no_probability(small, tmp_path):
    rows = [
        {"qid": "q0", "preferred": "d0", "rejected": "d1"},
        {"qid": "q0", "preferred": "d4", "rejected": "d1"},
    ]
    found = read_scores(written(tmp_path / "p.jsonl", rows), small, "preferences")
    assert pairs_of(found) == {"q0": [("d0", "d1", 1), ("d4", "d1", 1)]}


def test_a_teacher_of_preferences_is_another_when_one_changes(small, tmp_path):
    """Even where all means stay."""

    def teacher(p, q):
        rows = [ROWS[0] | {"probability": p}, ROWS[0] | {"probability": q}]
        return FileTeacher(str(written(tmp_path / f"{p}.jsonl", rows)), "preferences")

    one, other = teacher(0.5, 0.75), teacher(0.25, 1.0)
    assert one.fingerprint_for(small) != other.fingerprint_for(small)
    tables = [x.table(small, "train") for x in (one, other)]
    assert np.array_equal(tables[0].scores, tables[1].scores) and tables[0].teacher != tables[1].teacher
    assert pairs_of(tables[0]) == {"q0": [("d0", "d4", 0.5), ("d0", "d4", 0.75)]}


def test_unknown_documents_are_named_or_dropped_with_their_pairs(small, tmp_path):
    path = written(tmp_path / "p.jsonl", [*ROWS, ROWS[0] | {"document_id_b": "x9"}])
    with pytest.raises(InputError, match="documents that small lacks: 'x9'"):
        read_scores(path, small, "preferences")
    found = read_scores(path, small, "preferences", invalid="skip")
    assert len(pairs_of(found)["q0"]) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": 1.5}, r"p.jsonl:1: probability 1.5; it must be from 0 to 1"),
        ({"probability": float("nan")}, "probability nan; it must be"),
        ({"probability": "0.5"}, "a score is a number, not '0.5'"),
        ({"document_id_b": "d0"}, "p.jsonl:1: document 'd0' is compared with itself"),
        ({"document_id_b": None}, "an id is a text or an integer, not 'None'"),
    ],
)
def test_what_no_row_may_say(small, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_scores(written(tmp_path / "p.jsonl", [ROWS[0] | change]), small, "preferences")


@pytest.mark.parametrize(
    ("lacking", "message"),
    [("probability", "no field probability or p"), ("document_id_b", "no field document_id_b or doc_id_b")],
)
def test_a_field_that_is_missing_is_named(small, tmp_path, lacking, message):
    row = {name: value for name, value in ROWS[0].items() if name != lacking}
    with pytest.raises(InputError, match=f"p.jsonl:1: {message}"):
        read_scores(written(tmp_path / "p.jsonl", [row]), small, "preferences")


def test_a_table_without_pairs_is_not_written(scored, tmp_path):
    with pytest.raises(InputError, match="p.jsonl: preferences cannot be written of a score table with"):
        write_scores(scored, tmp_path / "p.jsonl", "preferences")
    assert isinstance(scored, ScoreTable) and not list(tmp_path.iterdir())
