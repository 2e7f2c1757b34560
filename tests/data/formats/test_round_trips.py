"""Every format: table -> file -> equal table; what no format may let through."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rankdistill.candidates import BM25, Random, mine
from rankdistill.data import Candidates, Collection
from rankdistill.errors import InputError
from rankdistill.scores import ScoreTable
from rankdistill.scores.formats import FORMATS, files_written, guess, read_scores, write_scores
from rankdistill.scores.preferences import Pairs
from rankdistill.teachers import score_candidates

FILES = [
    ("columns", "scores.parquet"),
    ("columns", "scores.arrow"),
    ("columns", "scores.feather"),
    ("csv", "scores.csv"),
    ("csv", "scores.tsv.gz"),
    ("json", "scores.json"),
    ("json", "scores.json.gz"),
    ("trec", "run.trec"),
    ("trec", "run.trec.gz"),
    ("margins", "margins.tsv"),
    ("groups", "groups.jsonl"),
    ("hard_negatives", "negatives.jsonl.gz"),
    ("tevatron", "tevatron.jsonl"),
    ("bge", "bge.jsonl"),
    ("tuples", "tuples.jsonl.gz"),
    ("tuples", "tuples.parquet"),
    ("tuples", "tuples.feather"),
    ("lists", "lists.jsonl"),
    ("lists", "lists.parquet"),
    ("lists", "lists.arrow"),
]
EQUAL = ("query_rows", "offsets", "document_rows", "positive")


def options(format, folder):
    return {"scores": str(folder / "groups.scores.json")} if format == "groups" else {}


@pytest.mark.parametrize(("format", "name"), FILES)
def test_what_is_written_reads_the_same(format, name, scored, tmp_path):
    """To the last bit of every score, and in the same order of the retriever where the file keeps one."""
    write_scores(scored, tmp_path / "new" / name, format)
    found = read_scores(
        tmp_path / "new" / name, scored.collection, format, **options(format, tmp_path / "new")
    )
    for field in EQUAL:
        assert np.array_equal(getattr(found.candidates, field), getattr(scored.candidates, field)), field
    assert found.scores.dtype == np.float32 and np.array_equal(found.scores, scored.scores)
    if format in ("columns", "csv", "json"):
        assert np.array_equal(found.candidates.ranks["file"], scored.candidates.ranks["file"])


@pytest.mark.parametrize(("format", "name"), FILES)
def test_a_mined_table_reads_the_same(format, name, table, tmp_path):
    """16 queries of 10 to 20 candidates: more than one of everything."""
    write_scores(table, tmp_path / name, format)
    found = read_scores(tmp_path / name, table.collection, format, **options(format, tmp_path))
    for field in EQUAL:
        assert np.array_equal(getattr(found.candidates, field), getattr(table.candidates, field)), field
    assert np.array_equal(found.scores, table.scores)


def test_a_ranking_keeps_the_order_of_the_scores(scored, tmp_path):
    write_scores(scored, tmp_path / "ranking.jsonl", "ranking")
    found = read_scores(tmp_path / "ranking.jsonl", scored.collection, "ranking")
    assert found.scores.tolist() == pytest.approx([1 / 2, 1, 1 / 2, 1, 1 / 3, 1, 1 / 2])
    assert np.array_equal(found.candidates.document_rows, scored.candidates.document_rows)


def test_large_tables_cross_the_blocks(collection, tmp_path, monkeypatch):
    """A block's end must not lose or repeat a row."""
    from conftest import WordTeacher

    for module, name in (
        ("columns", "BATCH"),
        ("delimited", "BLOCK"),
        ("jsonl", "PAIRS"),
        ("mapping", "BLOCK"),
    ):
        monkeypatch.setattr(f"rankdistill.scores.formats.{module}.{name}", 64)
    monkeypatch.setattr("rankdistill.scores.hub.QUERIES", 3)
    table = score_candidates(WordTeacher(), mine(collection, [BM25(20), Random(20)], "train"))
    for format, name in FILES:
        write_scores(table, tmp_path / name, format)
        found = read_scores(tmp_path / name, collection, format, **options(format, tmp_path))
        assert np.array_equal(found.candidates.document_rows, table.candidates.document_rows), format
        assert np.array_equal(found.scores, table.scores), format


@pytest.mark.parametrize(("format", "name"), FILES)
def test_a_file_of_another_collection_says_so(format, name, scored, collection, tmp_path):
    """Queries q0 to q2 are in both: it is the documents' ids, texts or fingerprint that tell."""
    write_scores(scored, tmp_path / name, format)
    small = type(collection)("other", ["x0"], ["t"], ["y0"], ["u"], {"train": {"y0": {"x0": 1}}})
    with pytest.raises(
        InputError, match="none of its queries is in other|belongs to another collection"
    ) as error:
        read_scores(tmp_path / name, small, format, **options(format, tmp_path))
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_file_is_named(format, small, tmp_path):
    with pytest.raises(InputError, match="nothing: no such file"):
        read_scores(tmp_path / "nothing", small, format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_of_nothing_is_named(format, small, tmp_path):
    (tmp_path / "empty").write_text("")
    with pytest.raises(InputError, match="empty"):
        read_scores(tmp_path / "empty", small, format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_place_that_cannot_be_written_is_named_and_left_clean(format, scored, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        write_scores(scored, tmp_path / "file" / "scores", format)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.csv", "csv"),
        ("a.tsv.gz", "csv"),
        ("a.parquet", "columns"),
        ("owner/name", "columns"),
        ("a.json.gz", "json"),
        ("run.trec.gz", "trec"),
    ],
)
def test_names_that_say_their_format(name, format):
    assert guess(name) == format


def test_what_no_name_or_format_says_is_asked_for(small):
    with pytest.raises(InputError, match=r"a.jsonl: its name doesn't say the format; give one: columns, csv"):
        guess("a.jsonl")
    with pytest.raises(InputError, match="format='xml': it must be one of columns, csv"):
        read_scores("a.csv", small, "xml")
    with pytest.raises(InputError, match="by: not an option of csv; available: none"):
        read_scores("a.csv", small, by="rank")
    with pytest.raises(InputError, match="collection='train': it must be a Collection; read_beir"):
        read_scores("a.csv", "train")
    with pytest.raises(InputError, match="path=None: it must be a text or a path"):
        read_scores(None, small)


def test_parquet_is_what_the_ecosystem_exchanges(scored, tmp_path):
    write_scores(scored, tmp_path / "scores.parquet")
    written = pq.read_table(tmp_path / "scores.parquet")
    assert written.column_names == ["query_id", "document_ids", "scores"]
    assert written.to_pylist()[0] == {"query_id": "q0", "document_ids": ["d4", "d0"], "scores": [2.5, -1.25]}
    assert written.schema.metadata[b"collection"].decode() == scored.collection.fingerprint


def test_feather_is_what_pandas_reads(scored, tmp_path):
    write_scores(scored, tmp_path / "scores.feather")
    first = pd.read_feather(tmp_path / "scores.feather").iloc[0]
    assert (first.query_id, list(first.document_ids), list(first.scores)) == (
        "q0",
        ["d4", "d0"],
        [2.5, -1.25],
    )


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("s.parquet.gz", "columns"),
        ("s.feather.gz", "lists"),
        ("s.pkl", "json"),
        ("s.pickle.gz", "json"),
        ("s.parquet", "trec"),
        ("s.arrow", "groups"),
    ],
)
def test_what_nobody_would_read_is_not_written(name, format, scored, tmp_path):
    with pytest.raises(InputError, match=f"{name}: "):
        write_scores(scored, tmp_path / name, format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.jsonl", "x.txt"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_writer_says_which_files_it_writes(format, name, scored, tmp_path):
    """``rankdistill score`` looks whether one of them is there already."""
    if format == "preferences":
        pairs = Pairs(np.array([0, 1, 1, 1]), np.array([0]), np.array([1]), np.array([0.75]))
        scored = replace(scored, pairs=pairs)
    write_scores(scored, tmp_path / name, format)
    said = files_written(tmp_path / name, format)
    assert sorted(tmp_path.iterdir()) == sorted(said) and said[0] == tmp_path / name


def test_scores_beside_groups_replace_no_file_of_another(scored, tmp_path):
    """Not those of groups that are gzipped, whose scores have the same name; those of its own they do."""
    own = tmp_path / "train.scores.json"
    own.write_text("precious")
    with pytest.raises(InputError, match="train.jsonl: its scores would replace .*train.scores.json; move"):
        write_scores(scored, tmp_path / "train.jsonl", "groups")
    assert own.read_text() == "precious" and list(tmp_path.iterdir()) == [own]
    own.unlink()
    for _ in range(2):
        write_scores(scored, tmp_path / "train.jsonl", "groups")
    assert json.loads(own.read_text())["q0"] == {"d4": 2.5, "d0": -1.25}
    with pytest.raises(InputError, match="train.jsonl.gz: its scores would replace .*train.scores.json"):
        write_scores(scored, tmp_path / "train.jsonl.gz", "groups")


def test_the_files_of_others_are_what_they_read(scored, tmp_path):
    """Field by field, for those whose readers are not ours."""
    lines = {}
    for format in ("groups", "hard_negatives", "tevatron", "bge"):
        write_scores(scored, tmp_path / "lines", format)
        lines[format] = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert lines["groups"][1:3] == [
        {"query_id": "q1", "doc_id_a": "d1", "doc_id_b": ["d3"]},
        {"query_id": "q1", "doc_id_a": "d2", "doc_id_b": ["d3"]},
    ]
    assert json.loads((tmp_path / "lines.scores.json").read_text())["q0"] == {"d4": 2.5, "d0": -1.25}
    assert lines["hard_negatives"][0] == {
        "qid": "q0",
        "pos": [{"pid": "d0", "ce-score": -1.25}],
        "neg": {"candidates": [{"pid": "d4", "ce-score": 2.5}]},
    }
    assert lines["tevatron"][2] == {
        "query_id": "q2",
        "query": "when",
        "positive_passages": [{"docid": "d3", "title": "", "text": "text 3", "score": 7.0}],
        "negative_passages": [{"docid": "d5", "title": "", "text": "text 5", "score": -7.0}],
    }
    assert lines["bge"][2] == {
        "query": "when",
        "pos": ["text 3"],
        "pos_scores": [7.0],
        "neg": ["text 5"],
        "neg_scores": [-7.0],
    }


def test_an_arrow_table_of_ours_opens_from_the_disk(table, tmp_path):
    write_scores(table, tmp_path / "table.arrow")
    before = pa.total_allocated_bytes()
    found = read_scores(tmp_path / "table.arrow", table.collection)
    assert pa.total_allocated_bytes() - before < 10_000
    assert found.candidates.fingerprint == table.candidates.fingerprint and found.teacher == "words"


def test_the_page_of_formats_names_them_all():
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert set(rows) == set(FORMATS)
    for format, (_, writer, endings) in FORMATS.items():
        assert f"`{writer.__name__}`" in rows[format]
        assert all(f"`{ending}`" in rows[format] for ending in endings if not ending.startswith(".p"))


@pytest.mark.parametrize(
    ("format", "name"), [(f, n) for f, n in FILES if f in ("margins", "groups", "hard_negatives", "tevatron")]
)
def test_a_copy_of_a_positive_is_written_as_no_negative(tmp_path, format, name):
    """It says what the positive says; formats that call the other documents negatives leave it out."""
    collection = Collection(
        "copied",
        ["a", "b", "c"],
        ["same text", "same text", "another"],
        ["q"],
        ["who"],
        {"train": {"q": {"a": 1}}},
    )
    pool = Candidates(
        collection,
        np.array([0]),
        np.array([0, 3]),
        np.array([0, 1, 2]),
        np.array([True, False, False]),
        {"file": np.array([0, 1, 2], np.uint16)},
    )
    write_scores(ScoreTable(pool, np.array([3.0, 2.0, 1.0], np.float32)), tmp_path / name, format)
    again = read_scores(tmp_path / name, collection, format, **options(format, tmp_path))
    assert again.candidates.document_rows.tolist() == [0, 2]
    assert again.scores.tolist() == [3.0, 1.0]
