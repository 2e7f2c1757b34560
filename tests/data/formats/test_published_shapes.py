"""The column names and shapes in which score sets are published, and what must not be misread."""

import json
import logging

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import rows_of

from rankdistill.data import Collection
from rankdistill.errors import InputError
from rankdistill.scores.formats import read_scores, write_scores

LISTS = {"q0": {"d0": (1.0, True), "d4": (0.5, False)}, "q2": {"d3": (2.0, True), "d5": (-2.0, False)}}
PAIRS = [("q0", "d0", 1.0), ("q0", "d4", 0.5), ("q2", "d3", 2.0), ("q2", "d5", -2.0)]
IDS = [["d0", "d4"], ["d3", "d5"]]
SCORES = [[1.0, 0.5], [2.0, -2.0]]
QRELS = {"train": {"[q]": {"[1]": 1}}}


@pytest.mark.parametrize("query", ["query_id", "qid", "query-id", "queryid"])
@pytest.mark.parametrize("document", ["passage_id", "pid", "corpus-id", "doc_id", "docid", "docno"])
def test_names_of_pairs(query, document, small, tmp_path):
    frame = pd.DataFrame(PAIRS, columns=[query, document, "score"])
    frame.to_parquet(tmp_path / "s.parquet")
    frame.to_csv(tmp_path / "s.csv", index=False)
    for name in ("s.parquet", "s.csv"):
        assert rows_of(read_scores(tmp_path / name, small)) == LISTS


@pytest.mark.parametrize("documents", ["document_ids", "doc_ids", "passage_ids", "pids", "corpus_id"])
@pytest.mark.parametrize(
    ("ids", "scores"),
    [
        (IDS, SCORES),
        ([json.dumps(x) for x in IDS], [json.dumps(x) for x in SCORES]),
        ([str(x) for x in IDS], [str(x) for x in SCORES]),  # in Python's quotes
        ([str(x) for x in IDS], SCORES),
    ],
    ids=["lists", "json", "python", "ids alone are text"],
)
def test_lists_and_lists_kept_as_text(documents, ids, scores, small, tmp_path):
    columns = {"query_id": ["q0", "q2"], documents: ids, "scores": scores}
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    assert rows_of(read_scores(tmp_path / "s.parquet", small)) == LISTS
    pd.DataFrame(columns).to_csv(tmp_path / "s.csv", index=False)
    assert rows_of(read_scores(tmp_path / "s.csv", small)) == LISTS


@pytest.mark.parametrize("name", ["s.parquet", "s.csv", "s.tsv"])
def test_ids_that_look_like_lists_beside_a_number(name, tmp_path):
    collection = Collection("c", ["[1]", "['a','b']", "d"], ["one", "two", "three"], ["[q]"], ["?"], QRELS)
    pairs = pd.DataFrame([("[q]", "[1]", 1.0), ("[q]", "['a','b']", 0.5)], columns=["qid", "pid", "score"])
    pairs.to_parquet(tmp_path / "s.parquet")
    table = read_scores(tmp_path / "s.parquet", collection)
    if name != "s.parquet":
        write_scores(table, tmp_path / name)
        table = read_scores(tmp_path / name, collection)
    assert rows_of(table) == {"[q]": {"[1]": (1.0, True), "['a','b']": (0.5, False)}}


def test_an_empty_path_is_no_folder(small):
    with pytest.raises(InputError, match="path: it is empty"):
        read_scores("", small)


def test_labels_are_no_scores(small, tmp_path):
    table = pa.table({"qid": ["q0", "q0"], "pid": ["d0", "d4"], "score": [True, False]})
    pq.write_table(table, tmp_path / "s.parquet")
    with pytest.raises(InputError, match="s.parquet: .* scores numbers .true and false are labels"):
        read_scores(tmp_path / "s.parquet", small)


@pytest.mark.parametrize(
    "text", ["[__import__('os').mkdir('ran')]", "[1, 2", "[1 2]", "[1_0, 2]", "[nan]", "[" * 9999, "[1][0]"]
)
def test_text_that_is_no_list_is_named_and_never_run(text, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"query_id": ["q0"], "doc_ids": ["['d0']"], "scores": [text]}), "s.parquet")
    with pytest.raises(InputError, match=r"s.parquet: expected lists such as \[1, 2\].* got .\["):
        read_scores("s.parquet", small)
    assert not (tmp_path / "ran").exists()


def test_a_saved_dataset(small, tmp_path):
    rows = datasets.Dataset.from_dict({"query_id": ["q0", "q2"], "document_ids": IDS, "scores": SCORES})
    rows.save_to_disk(tmp_path / "one")
    assert rows_of(read_scores(tmp_path / "one", small)) == LISTS
    datasets.DatasetDict({"train": rows.select([0]), "dev": rows}).save_to_disk(tmp_path / "several")
    assert rows_of(read_scores(tmp_path / "several", small)) == {"q0": LISTS["q0"]}
    assert rows_of(read_scores(tmp_path / "several", small, split="dev")) == LISTS
    with pytest.raises(InputError, match="several: no split 'test'; available: train, dev"):
        read_scores(tmp_path / "several", small, split="test")
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"damaged")
    with pytest.raises(InputError, match="one: a saved dataset that cannot be read"):
        read_scores(tmp_path / "one", small)


def test_tables_of_texts_beside_the_scores_are_told_apart(small, tmp_path):
    """PyLate's sets have three tables; the error names the file that has no scores."""
    for name, columns in (
        ("documents", {"document_id": ["d0"], "text": ["text 0"]}),
        ("train", {"query_id": ["q0"], "document_ids": [["d0", "d4"]], "scores": [[1.0, 0.5]]}),
    ):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(columns), tmp_path / name / "0.parquet")
    with pytest.raises(InputError, match="documents/0.parquet: no column with the query ids"):
        read_scores(tmp_path, small)
    assert rows_of(read_scores(tmp_path / "train", small)) == {"q0": LISTS["q0"]}


def test_rankings_in_columns(small, tmp_path):
    pq.write_table(pa.table({"query_id": ["q0", "q2"], "doc_ids": IDS}), tmp_path / "s.parquet")
    with pytest.raises(InputError, match=r"no column with the scores .*teacher.options=\{by: rank\}"):
        read_scores(tmp_path / "s.parquet", small)
    expected = {
        "q0": {"d0": (1, True), "d4": (0.5, False)},
        "q2": {"d3": (1, True), "d5": (0.5, False)},
    }
    assert rows_of(read_scores(tmp_path / "s.parquet", small, by="rank")) == expected
    pq.write_table(pa.table({"query_id": ["q0"], "doc_id": ["d0"]}), tmp_path / "p.parquet")
    with pytest.raises(InputError, match="by=rank reads lists"):
        read_scores(tmp_path / "p.parquet", small, by="rank")
    (tmp_path / "p.csv").write_text("query_id,document_id,rank\nq0,d0,1\n")  # by is no option of these
    with pytest.raises(
        InputError, match="no column with the scores .*available: query_id, document_id, rank$"
    ):
        read_scores(tmp_path / "p.csv", small)


MARGINS = {"pos_score": "1", "neg_score": "0.5", "query_id": "q0", "pos_id": "d0", "neg_id": "d4"}


@pytest.mark.parametrize(
    "order",
    [
        ["pos_score", "neg_score", "query_id", "pos_id", "neg_id"],
        ["neg_score", "pos_score", "query_id", "pos_id", "neg_id"],
        ["query_id", "pos_id", "neg_id", "neg_score", "pos_score"],
    ],
)
def test_the_header_of_margins_says_which_column_is_which(order, small, tmp_path):
    lines = ["\t".join(order), "\t".join(MARGINS[name] for name in order)]
    (tmp_path / "m.tsv").write_text("\n".join(lines) + "\n")
    assert rows_of(read_scores(tmp_path / "m.tsv", small, "margins")) == {"q0": LISTS["q0"]}
    with pytest.raises(InputError, match=r"m.tsv: no column with the document ids .*format=margins"):
        read_scores(tmp_path / "m.tsv", small)


def test_a_margin_alone_is_refused(small, tmp_path):
    columns = {"query_id": ["q0"], "positive_id": ["d0"], "negative_id": ["d4"], "score": [0.5]}
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    with pytest.raises(InputError, match="s.parquet: .* a margin alone doesn't give the two scores"):
        read_scores(tmp_path / "s.parquet", small)


BAD = [
    ("s.csv", "query_id,document_id,score,score\nq0,d0,1,9\n", "2 columns with the scores: score, score"),
    (
        "s.csv",
        "query_id,doc_id,passage_id,score\nq0,d0,d4,9\n",
        "2 columns with the document ids: doc_id, pass",
    ),
    ("s.csv", "q0,d0,1\nq0,d4,1_0\n", "s.csv:2: expected .* got 'q0,d4,1_0', whose score is not a number"),
    ("s.csv", "q0,d0,1\nq0,d4,１\n", "s.csv:2: expected .*whose score is not a number"),
    ("s.csv", "q0,d0,1\nq0,d4,nan\n", "score nan for query 'q0', document 'd4'"),
    ("s.csv", "q0,d0,1\nq0,d4,-Infinity\n", "score -inf for query 'q0', document 'd4'"),
    ("s.trec", "q0 Q0 d0 1_0 1 x\n", "s.trec:1: expected 'query Q0 document rank score name'"),
    ("s.trec", "q0 Q0 d0 1 1_0 x\n", "s.trec:1: expected 'query Q0 document rank score name'"),
    ("s.trec", "q0 Q0 d0 1 １ x\n", "s.trec:1: expected 'query Q0 document rank score name'"),
    ("s.json", '{"q0": {"d0": 1, "\\ud800": 2}}', r"s.json: '\\ud800' holds half a character"),
    ("s.json", '[{"query": {"qid": "q0"}, "candidates": []}]', "of a list, as RankLLM .* take the TREC run"),
    ("s.csv", "q0,d0,1\nq0,D4,1\n", "'D4' differs from 'd4' only by upper and lower case"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_what_would_be_misread_ends_in_one_line(name, text, message, small, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as error:
        read_scores(tmp_path / name, small)
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


def test_numbers_in_every_usual_spelling(small, tmp_path):
    (tmp_path / "s.csv").write_text("q0,d0,+1\nq0,d1,1e3\nq0,d2, 2.5 \nq0,d3,-.5E-1\nq0,d4,7.\n")
    found = {
        document: score
        for document, (score, _) in rows_of(read_scores(tmp_path / "s.csv", small))["q0"].items()
    }
    assert found == pytest.approx({"d0": 1, "d1": 1000, "d2": 2.5, "d3": -0.05, "d4": 7})


def test_equal_ranks_are_no_ranking(small, tmp_path):
    (tmp_path / "s.trec").write_text("q0 Q0 d0 0 1 x\nq0 Q0 d4 0 5 x\n")
    with pytest.raises(InputError, match="s.trec: query 'q0' has rank 0 twice, at 'd4' too; .*by=score"):
        read_scores(tmp_path / "s.trec", small, by="rank")
    assert rows_of(read_scores(tmp_path / "s.trec", small))["q0"] == {"d0": (1, True), "d4": (5, False)}


def test_long_cells_and_lines_within_quotes(small, tmp_path):
    text = 'long "" text\n' * 20_000
    lines = [f'{q},"{text}",{d},{s}\n' for q, d, s in PAIRS]
    (tmp_path / "s.csv").write_text("query_id,text,document_id,score\n" + "".join(lines))
    assert rows_of(read_scores(tmp_path / "s.csv", small)) == LISTS
    (tmp_path / "s.csv").write_text("x" * 140_000 + ",d0,1.0\nq0,d0,1.0\n")
    with pytest.raises(InputError, match=f"s.csv: 1 scores of queries that small lacks: '{'x' * 60}';"):
        read_scores(tmp_path / "s.csv", small)


QUOTED = Collection(
    "quoted",
    ['"d1', 'd3"', '<a,_"b">', '"d2"', "d4"],
    list("abcde"),
    ["q"],
    ["x"],
    {"train": {"q": {'"d1': 1}}},
)
ALL = {'"d1': (1, True), 'd3"': (2, False), '<a,_"b">': (3, False), '"d2"': (4, False), "d4": (5, False)}


@pytest.mark.parametrize(
    "text",
    [
        'q\t"d1\t1\nq\td3"\t2\nq\t<a,_"b">\t3\nq\t"d2"\t4\nq\td4\t5\n',  # as they are
        'q\t"""d1"\t1\nq\t"d3"""\t2\nq\t"<a,_""b"">"\t3\nq\t"""d2"""\t4\n"q"\t"d4"\t5\n',  # as csv does
        '"q"\t"""d1"\t"1"\n"q"\t"d3"""\t"2"\n"q"\t"<a,_""b"">"\t"3"\n"q"\t"""d2"""\t"4"\n"q"\t"d4"\t"5"\n',
    ],
    ids=["bare", "some", "all"],
)
@pytest.mark.parametrize("header", ["", "query_id\tdocument_id\tscore\n"])
def test_quotes_between_tabs(text, header, tmp_path):
    if header and '"1"' in text:
        header = '"query_id"\t"document_id"\t"score"\n'
    (tmp_path / "s.tsv").write_text(header + text)
    assert rows_of(read_scores(tmp_path / "s.tsv", QUOTED)) == {"q": ALL}


@pytest.mark.parametrize("name", ["s.tsv", "s.csv", "s.trec", "s.json", "s.parquet"])
def test_ids_with_quotes_there_and_back(name, tmp_path):
    (tmp_path / "in.trec").write_text("".join(f"q Q0 {d} 1 {s} x\n" for d, (s, _) in ALL.items()))
    write_scores(read_scores(tmp_path / "in.trec", QUOTED), tmp_path / name)
    assert rows_of(read_scores(tmp_path / name, QUOTED)) == {"q": ALL}


@pytest.mark.parametrize(
    ("known", "given", "what"),
    [
        ("caf\u00e9", "cafe\u0301", "Unicode normalisation"),
        ("007", "7", "leading zeros"),
        ("7", "7.0", "the .0 of a float"),
    ],
)
def test_ids_that_are_almost_the_same_are_shown(known, given, what, tmp_path, caplog):
    collection = Collection("near", [known, "b"], ["x", "y"], ["q"], ["z"], {"train": {"q": {known: 1}}})
    (tmp_path / "s.json").write_text(json.dumps({"q": {given: 1, "b": 2}}))
    with pytest.raises(InputError) as error:
        read_scores(tmp_path / "s.json", collection)
    assert f"({given!r} differs from {known!r} only by {what})" in str(error.value)
    with caplog.at_level(logging.WARNING), pytest.raises(InputError, match="none of its 1 queries has two"):
        read_scores(tmp_path / "s.json", collection, invalid="skip")
