"""Files of text as other projects write them, by hand; and malformed ones, with the line."""

import gzip
import json
import logging
import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import rows_of

from rankdistill.errors import InputError
from rankdistill.scores.formats import read_scores
from rankdistill.scores.formats.runs import permuted

TWO = {"q0": {"d0": (1.0, True), "d4": (0.5, False)}, "q2": {"d3": (2.0, True), "d5": (-2.0, False)}}
WELL = [  # format, contents, options
    ("csv", "q0,d0,1\nq0,d4,0.5\nq2,d3,2\nq2,d5,-2\n", {}),
    ("csv", "\ufeffscore,other,query_id,doc_id\n1,a,q0,d0\n0.5,b,q0,d4\n2,c,q2,d3\n-2,d,q2,d5\n", {}),
    ("csv", 'q0\t"d0"\t1\r\nq0\td4\t5e-1\r\n\r\nq2\td3\t2\r\nq2\td5\t-2', {}),
    ("csv", "\n \nquery_id,document_id,score\nq0,d0,1\nq0,d4,0.5\nq2,d3,2\nq2,d5,-2\n", {}),
    ("json", '{"q0": {"d0": 1, "d4": 0.5}, "q2": {"d3": 2.0, "d5": -2}}', {}),
    ("json", '{"q0": {"d0": 1, "d4": 0.5, "d0": 1.001}, "q2": {"d3": 2.0, "d5": -2}}', {}),
    ("json", '{"q0": {"d0": 1, "d4": 0.5}}\n{"q2": {"d3": 2.0, "d5": -2}}\n', {}),
    ("json", '{"q0":\n {"d0": 1,\n "d4": 0.5},\n "q2" : {"d3": 2.0, "d5": -2}\n}', {}),
    ("margins", "1\t0.5\tq0\td0\td4\n2\t-2\tq2\td3\td5\n", {}),
    ("trec", "q0 Q0 d0 1 1.0 x\nq0 Q0 d4 2 0.5 x\nq2\tQ0\td3  1 2 x\nq2 Q0 d5 2 -2 x\n", {}),
    (
        "hard_negatives",
        '{"qid": "q0", "pos": [{"pid": "d0", "ce-score": 1}], "neg": '
        '{"bm25": [{"pid": "d4", "ce-score": 0.5}], "other": [{"pid": "d4", "ce-score": 0.5}]}}\n'
        '{"qid": "q2", "pos": [{"pid": "d3", "ce-score": 2}], "neg": '
        '{"bm25": [{"pid": "d5", "ce-score": -2}]}}',
        {},
    ),
    (
        "hard_negatives",
        '{"qid": "q0", "pos": ["d0"], "neg": {"bm25": ["d4"], "other": ["d4"]}}\n'
        '{"qid": "q2", "pos": ["d3"], "neg": {"bm25": ["d5"]}}',
        {"scores"},
    ),
    (
        "groups",
        '{"qid": "q0", "doc_id_a": "d0", "doc_id_b": "d4"}\n'
        '{"qid": "q2", "doc_id_a": "d3", "doc_id_b": ["d5"]}',
        {"scores"},
    ),
    (
        "tevatron",
        '{"query_id": "q0", "query": "a", "positive_passages": [{"docid": "d0", "text": "b", "score": 1}], '
        '"negative_passages": [{"docid": "d4", "score": 0.5}]}\n{"query_id": "q2", "query": "a", '
        '"positive_passages": [{"docid": "d3", "score": 2}], '
        '"negative_passages": [{"docid": "d5", "score": -2}]}',
        {},
    ),
    (
        "bge",
        '{"query": "who", "pos": ["text 0"], "neg": ["text 4"], "pos_scores": [1], '
        '"neg_scores": [0.5], "x": 1}\n'
        '{"query": "when", "pos": ["text 3"], "neg": ["text 5"], "pos_scores": [2.0], "neg_scores": [-2]}',
        {},
    ),
]


def written(folder, text, name="s.txt"):
    with open(folder / name, "w", newline="", encoding="utf-8") as out:
        out.write(text)
    return folder / name


@pytest.mark.parametrize(("format", "text", "options"), WELL)
def test_what_others_write(format, text, options, small, tmp_path):
    scores = {q: {d: score for d, (score, _) in found.items()} | {"d1": 9} for q, found in TWO.items()}
    beside = written(tmp_path, json.dumps(scores), "scores.json")
    given = {"scores": str(beside)} if options else {}
    assert rows_of(read_scores(written(tmp_path, text), small, format, **given)) == TWO
    with gzip.open(tmp_path / "s.gz", "wt", encoding="utf-8") as out:
        out.write(text)
    assert rows_of(read_scores(tmp_path / "s.gz", small, format, **given)) == TWO


JSONL = ("groups", "bge", "ranking")
BAD = [
    (
        "csv",
        "q0,d0,1\nq0,d1\n",
        "s.txt:2: expected query_id, document_id, score, separated by commas; got 'q0,d1'",
    ),
    ("csv", "q0,d0,1\n\nq0,d1,high\n", "s.txt:3: expected .* got 'q0,d1,high'"),
    ("csv", "q0,d0,1\nq0,d1,\n", "s.txt:2: expected .* got 'q0,d1,'"),
    ("csv", "query_id,score\nq0,1\n", r"no column with the document ids \(.*\); available: query_id, score"),
    ("csv", "q0,d0,a,1\n", "s.txt:1: expected query, document and score, or a header; got 4 cells"),
    ("csv", "query_id,document_id,score\n", "s.txt: no score in it"),
    ("json", '{"q0": {"d0": 1, "d4": 0.5}, "q2": {"d3"', "s.txt: malformed JSON, or cut short"),
    ("json", '{"q0": [["d0", 1]]}', "s.txt: query 'q0': expected document ids and scores"),
    ("json", '{"q0": {"d0": "high"}}', "s.txt: query 'q0': a score is a number, not 'high'"),
    ("json", '{"q0": {"d0": %s}}' % ("7" * 400), "query 'q0': a score that is too large, 7777"),
    ("json", '{"q0": {"d0": %s}}' % ("7" * 5000), "malformed JSON .a number too large"),
    ("json", '{"q0": ' + '{"d0": ' * 100_000, "malformed JSON .a number too large"),
    ("json", '[["q0", "d0", 1]]', "s.txt: expected {query id: {document id: score}}"),
    ("json", '{"q0": {"d0": NaN, "d1": 1}}', "score nan for query 'q0', document 'd0'"),
    ("margins", "1\t0.5\tq0\td0\n", "s.txt:1: expected pos_score, neg_score, query_id, pos_id, neg_id"),
    ("margins", "1\t0.5\tq0\td0\td4\n1\tx\tq0\td0\td5\n", "s.txt:2: expected pos_score.* separated by tabs"),
    ("trec", "q0 Q0 d0 1 1.0 x\nq0 Q0 d4 2 x\n", "s.txt:2: expected 'query Q0 document rank score name'"),
    ("trec", "q0 Q0 d0 first 1.0 x\n", "s.txt:1: expected 'query Q0 document rank score name'"),
    *((format, '{"query_id": "q0"\n', "s.txt:1: malformed JSON") for format in JSONL),
    *((format, "[1]\n", "s.txt:1: expected a JSON object") for format in JSONL),
    *((format, '{"x": 1}\n', "s.txt:1: no field .*; available: x") for format in JSONL),
    (
        "groups",
        '{"qid": "q0", "pos": ["d0"], "neg": []}',
        "s.txt:1: document 'd0' has no score; give the file",
    ),
    (
        "groups",
        '{"qid": "q0", "pos": [{"pid": "d0", "score": "1"}], "neg": []}',
        "s.txt:1: a score is a number",
    ),
    ("groups", '{"qid": true, "pos": [], "neg": []}', "s.txt:1: an id is a text or an integer, not 'True'"),
    (
        "groups",
        '{"qid": "q0", "pos": [{"text": "a"}], "neg": []}',
        "s.txt:1: no field document_ids or .*; available: text",
    ),
    (
        "bge",
        '{"query": "who", "pos": ["a"], "neg": []}',
        "s.txt:1: no field pos_scores; available: query, pos, neg",
    ),
    ("bge", '{"query": "who", "pos": ["a"], "pos_scores": []}', "s.txt:1: 1 texts in pos, 0 scores"),
    ("bge", '{"query": "who", "pos": "a"}', "s.txt:1: pos is a list, not 'a'"),
    (
        "bge",
        '{"query": "who", "pos": ["text 0"], "neg": ["text 9"], "pos_scores": [1], "neg_scores": [0]}',
        "s.txt: 1 scores of documents that small lacks: 'text 9'",
    ),
    ("ranking", '{"query_id": "q0", "ranking": ["d0", "d0"]}', "s.txt:1: a document appears twice"),
    ("ranking", '{"query_id": "q0", "ranking": "d0"}', "s.txt:1: ranking is a list"),
    (
        "ranking",
        '{"query_id": "q0", "ranking": ["d0", "d4"]}\n{"query_id": "q0", "ranking": ["d4", "d0"]}',
        "s.txt:2: query 'q0' again",
    ),
    (
        "ranking",
        '{"query_id": "q0", "ranking": ["d0", "d4"], "candidates": ["d0", "d4"], "permutation": "[2] > [1]"}',
        "s.txt:1: ranking and permutation are both an order",
    ),
    (
        "groups",
        '{"qid": "q0", "query_id": "q1", "pos": ["d0"], "neg": []}',
        "s.txt:1: query_id and qid have one meaning",
    ),
    (
        "hard_negatives",
        '{"qid": "q0", "pos": [{"pid": "d0", "score": 7, "ce-score": 2}], "neg": []}',
        "s.txt:1: score and ce-score have one meaning",
    ),
    (
        "preferences",
        '{"query_id": "q0", "document_id_a": "d0", "document_id_b": "d4", "preferred": "b"}',
        "s.txt:1: document_id_a and preferred have one meaning",
    ),
]


@pytest.mark.parametrize(("format", "text", "message"), BAD)
def test_bad_files_end_in_one_line_that_names_the_place(format, text, message, small, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        read_scores(written(tmp_path, text), small, format)
    assert str(tmp_path / "s.txt") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("format", ["csv", "json", "trec", "groups", "bge", "margins"])
def test_what_is_not_text_is_named(format, small, tmp_path):
    (tmp_path / "s").write_bytes(b"q0\xff\xfe,d0,1\n" * 3)
    with pytest.raises(InputError, match="s(:1)?: not UTF-8 text"):
        read_scores(tmp_path / "s", small, format)


def test_a_pickle_is_not_read_and_its_conversion_said(small, tmp_path):
    given = {"q0": {"d0": np.float32(0.5), "d4": -2.0}, "q1": {np.str_("d1"): np.int64(3), "d5": 1}}
    names = {"a b's.pkl.gz": True, "scores.pkl": False, "s.pickle": True, "s.pkl.gz": False}
    for name, packed in names.items():
        data = pickle.dumps(given)
        (tmp_path / name).write_bytes(gzip.compress(data, mtime=0) if packed else data)
        with pytest.raises(
            InputError, match="pickles run code .* convert it: python -c .*json.dump"
        ) as refused:
            read_scores(tmp_path / name, small, "json")
        command = str(refused.value).partition("convert it: ")[2].replace("python", sys.executable, 1)
        subprocess.run(command, shell=True, check=True, cwd=tmp_path)
        written = json.loads((tmp_path / "scores.json").read_text())
        assert written == {"q0": {"d0": 0.5, "d4": -2.0}, "q1": {"d1": 3.0, "d5": 1.0}}
        (tmp_path / "scores.json").unlink()
    with pytest.raises(InputError, match="nowhere.pkl: no such file"):
        read_scores(tmp_path / "nowhere.pkl", small)


@pytest.mark.parametrize("name", ["s.csv", "s.trec", "s.jsonl", "s.json"])
def test_a_gzipped_file_under_a_plain_name_is_told(small, tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b"q0 Q0 d0 1 1.0 x\n", mtime=0))
    format = "groups" if name == "s.jsonl" else None
    with pytest.raises(InputError, match=f"{name}: not text but gzipped; end its name in .gz"):
        read_scores(tmp_path / name, small, format)


def test_documents_of_groups_without_a_score_are_counted(small, tmp_path, caplog):
    groups = written(tmp_path, '{"qid": "q0", "pos": ["d0"], "neg": {"a": ["d4", "d1"]}}')
    scores = written(tmp_path, '{"q0": {"d0": 1, "d4": 0.5, "d5": 7}}', "scores.json")
    with caplog.at_level(logging.WARNING):
        found = read_scores(groups, small, "groups", scores=str(scores))
    assert rows_of(found) == {"q0": TWO["q0"]}
    assert f"1 documents of its groups have no score in {scores}" in caplog.text


RUN = "q0 Q0 d4 2 0.5 x\nq0 Q0 d0 1 0.5 x\nq0 Q0 d5 3 0.5 x\n"


def test_ranks_can_be_the_teacher(small, tmp_path):
    """A permutation by a language model has ranks that mean something and scores that don't."""
    found = read_scores(written(tmp_path, RUN, "r.trec"), small, by="rank")
    third = pytest.approx(1 / 3)
    assert rows_of(found) == {"q0": {"d0": (1, True), "d4": (0.5, False), "d5": (third, False)}}
    assert rows_of(read_scores(tmp_path / "r.trec", small))["q0"]["d5"] == (0.5, False)
    line = written(tmp_path, '{"query_id": "q0", "ranking": ["d0", "d4", "d5"]}')
    assert rows_of(read_scores(line, small, "ranking")) == rows_of(found)


@pytest.mark.parametrize(
    ("answer", "n", "places"),
    [
        ("[2] > [1] > [2]", 3, [1, 0, 2]),
        ("[3] > [1] > [2]", 3, [2, 0, 1]),
        ("Of these 20 passages: [ 2 ]>[4]>[0]>[1]", 3, [1, 0, 2]),
        ("3, 1", 4, [2, 0, 1, 3]),
        ([3, 1, True, "2"], 3, [2, 0, 1]),
        ("[99999999999999999999] > [2]", 2, [1, 0]),
        ("I cannot rank them.", 3, None),
        ("[7]", 3, None),
        ([], 3, None),
        (None, 3, None),
    ],
)
def test_an_order_in_a_language_models_answer(answer, n, places):
    assert permuted(answer, n) == places


def test_no_answer_loses_a_document():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(1, 9))
        answer = " > ".join(f"[{number}]" for number in rng.integers(0, 12, rng.integers(1, 12)))
        places = permuted(answer, n)
        assert places is None or sorted(places) == list(range(n))


def test_permutations_of_candidates_are_rankings(small, tmp_path, caplog):
    """The candidates are in the retriever's order, which is kept as the ranks."""
    line = '{"query_id": "q0", "candidates": ["d5", "d0", "d4"], "permutation": "[2] > [3]"}\n'
    table = read_scores(written(tmp_path, line), small, "ranking")
    third = pytest.approx(1 / 3)
    assert rows_of(table) == {"q0": {"d0": (1, True), "d4": (0.5, False), "d5": (third, False)}}
    assert table.candidates.ranks["file"].tolist() == [1, 2, 0]  # of d0, d4, d5
    thought = line.replace('"[2]', '"<think>[3] > [1], no</think> [2]')
    assert rows_of(read_scores(written(tmp_path, thought), small, "ranking")) == rows_of(table)
    mute = '{"query_id": "q2", "candidates": ["d3", "d5"], "permutation": "Sorry."}\n'
    path = written(tmp_path, line + mute)
    with pytest.raises(InputError, match="s.txt:2: no order of 2 candidates in 'Sorry.'; ask again, or"):
        read_scores(path, small, "ranking")
    assert rows_of(read_scores(path, small, "ranking", "skip")) == rows_of(table)
    assert "left out 1 queries whose answers have no order" in caplog.text
    with pytest.raises(InputError, match="s.txt:1: a document appears twice in the candidates"):
        read_scores(written(tmp_path, line.replace("d5", "d0")), small, "ranking")
    with pytest.raises(InputError, match="s.txt:1: no field candidates; available: query_id, permutation"):
        read_scores(written(tmp_path, '{"query_id": "q0", "permutation": "[1]"}'), small, "ranking")


def test_scattered_lines_have_no_ranks(small, tmp_path):
    path = written(tmp_path, RUN + "q2 Q0 d3 1 1 x\nq0 Q0 d1 4 0.1 x\n")
    with pytest.raises(InputError, match="the lines of query 'q0' are not together"):
        read_scores(path, small, "trec", by="rank")
    with pytest.raises(InputError, match="by='ranks': it must be 'score' or 'rank'"):
        read_scores(path, small, "trec", by="ranks")
    assert len(rows_of(read_scores(path, small, "trec"))["q0"]) == 4
