import dataclasses
import hashlib
import json
import tracemalloc

import numpy as np
import pytest

from rankdistill.data import Collection, read_beir
from rankdistill.errors import InputError

FIELDS = {
    "name": "toy",
    "document_ids": ["a", "b", "c"],
    "documents": ["one", "two", "three"],
    "query_ids": ["q", "r", "s", "t"],
    "queries": ["1?", "2?", "3?", "4?"],
    "qrels": {
        "train": {"r": {"b": 1, "c": 0, "a": 2}, "q": {"c": 1}, "s": {"a": 0}},
        "test": {"t": {"a": 1}},
    },
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"document_ids": ["a", "b"]}, "2 document ids for 3 texts"),
        ({"queries": ["1?"]}, "4 query ids for 1 texts"),
        ({"document_ids": ["a", "b", "a"]}, "duplicate document id 'a'"),
        ({"query_ids": ["q", "r", "s", "s"]}, "duplicate query id 's'"),
        ({"documents": ["one", " \n", "three"]}, "empty text of document 'b'"),
        ({"queries": ["1?", "2?", "", ""]}, "empty text of query 's', 't'"),
        ({"qrels": {"dev": {"z": {"a": 1}}}}, "qrels of dev name no query 'z'"),
        ({"qrels": {"dev": {"q": {"a": 1, "z": 1}}}}, "qrels of dev name no document 'z'"),
        ({"document_ids": [1, 2, 3]}, "document ids must be strings, got 1 at 0"),
        ({"queries": ["1?", None, "3?", "4?"]}, "query texts must be strings, got None at 1"),
        (
            {"qrels": {"dev": {"q": {"a": 0.5}}}},
            "qrels of dev: query 'q', document 'a' has the grade 0.5; it must be a whole number",
        ),
    ],
)
def test_what_does_not_hold_together_raises(change, message):
    with pytest.raises(InputError, match=f"toy: {message}"):
        Collection(**{**FIELDS, **change})


def test_rows_are_positions():
    toy = Collection(**FIELDS)
    assert [toy.document_ids[toy.document_row[i]] for i in "cab"] == ["c", "a", "b"]
    assert [toy.query_ids[toy.query_row[i]] for i in "tq"] == ["t", "q"]


def test_only_queries_with_a_relevant_document_count():
    toy = Collection(**FIELDS)
    assert toy.query_rows("train").tolist() == [0, 1]
    assert toy.query_rows("train").dtype == np.int64


def test_positives_are_the_grades_above_zero():
    assert Collection(**FIELDS).positive_rows("train") == {0: [2], 1: [0, 1], 2: []}


def test_an_unknown_split_raises_with_what_there_is():
    with pytest.raises(InputError, match="no split 'dev'; available: 'train', 'test'"):
        Collection(**FIELDS).query_rows("dev")


def test_a_limit_draws_by_seed(collection):
    drawn = collection.query_rows("train", 6, seed=1)
    assert drawn.tolist() == sorted(set(drawn.tolist())) and len(drawn) == 6
    assert set(drawn) < set(collection.query_rows("train"))
    assert drawn.tolist() == collection.query_rows("train", 6, seed=1).tolist()
    assert drawn.tolist() != collection.query_rows("train", 6, seed=2).tolist()


@pytest.mark.parametrize("limit", [16, 1000, None])
def test_a_limit_above_what_there_is_takes_all(collection, limit):
    assert collection.query_rows("train", limit).tolist() == list(range(16))


@pytest.mark.parametrize(
    "change",
    [
        {"document_ids": ["a", "c", "b"], "qrels": {}},
        {"documents": ["one", "two", "three!"]},
        {"queries": ["1?", "2?", "4?", "3?"]},
        {"qrels": {"test": {"t": {"a": 2}}}},
        {"qrels": {}},
    ],
)
def test_the_fingerprint_changes_with_ids_texts_and_judgments(change):
    assert Collection(**{**FIELDS, **change}).fingerprint != Collection(**FIELDS).fingerprint


def test_the_fingerprint_does_not_depend_on_the_name_or_the_order_of_judgments():
    toy = Collection(**FIELDS)
    turned = {s: dict(reversed(judged.items())) for s, judged in reversed(toy.qrels.items())}
    assert dataclasses.replace(toy, name="other", qrels=turned).fingerprint == toy.fingerprint


def with_identical_ids(query_text="a b", grades=None, ignore=None, title=""):
    """Query 1 has the id of document 1; document 2 is relevant."""
    return Collection(
        "own",
        ["1", "2", "3"],
        [title + "a  b", "a c", "z"],
        ["1", "q"],
        [query_text, "z"],
        {"train": {"1": grades or {"2": 1}}, "test": {"q": {"3": 1}}},
        ignore,
    )


@pytest.mark.parametrize(
    ("given", "row"),
    [
        ({}, 0),
        ({"title": "About letters: "}, 0),
        ({"query_text": "x"}, -1),
        ({"query_text": "b"}, 0),
        ({"query_text": "x", "ignore": True}, 0),
        ({"ignore": False}, -1),
        ({"grades": {"1": 1, "2": 1}}, -1),
        ({"grades": {"1": 0, "2": 1}}, 0),
    ],
    ids=["same", "titled", "other", "its-end", "other-set", "same-set", "relevant", "judged-not-relevant"],
)
def test_a_document_with_the_querys_id_is_the_query_if_it_has_its_text(given, row):
    """ArguAna's documents have a title before the query's text; unrelated collections count from 1 both."""
    assert with_identical_ids(**given).own_document.tolist() == [row, -1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "1 queries are documents of the same id, which are left out"),
        ({"query_text": "x"}, "1 queries have the id of a document with another text, which stays"),
        ({"ignore": True}, "1 queries are documents of the same id, which are left out"),
        ({"ignore": False}, None),
    ],
)
def test_what_becomes_of_identical_ids_is_said_once(given, said, caplog):
    caplog.set_level("INFO")
    found = with_identical_ids(**given)
    assert found.own_document is found.own_document
    assert [said in line for line in caplog.messages] == [True] if said else not caplog.messages


def test_every_reader_takes_what_becomes_of_identical_ids(beir):
    assert read_beir(beir, ignore_identical_ids=False).ignore_identical_ids is False
    assert read_beir(beir).ignore_identical_ids is None


def test_the_fingerprint_is_that_of_the_whole_as_json_but_needs_no_such_text():
    """So that caches and published fingerprints remain: it was computed from one string of 5 MB here."""
    texts = [f'Überraschung {i} "quoted"\\n' + "x" * 1000 for i in range(5_000)]
    ids = [f"d{i}" for i in range(5_000)]
    qrels = {"train": {"q": {"d1": 2, "d0": 1}}, "dev": {}}
    collection = Collection("big", ids, texts, ["q"], ["what?"], qrels)
    whole = json.dumps((ids, texts, ["q"], ["what?"], qrels), sort_keys=True, ensure_ascii=False)
    expected = hashlib.sha256(whole.encode()).hexdigest()[:16]
    del whole
    tracemalloc.start()
    found = collection.fingerprint
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == expected and peak < 1e6


def test_half_a_character_is_no_text():
    with pytest.raises(InputError, match=r"toy: '\\udc80' is half a character"):
        _ = Collection(**{**FIELDS, "documents": ["one", "\udc80", "three"]}).fingerprint


def test_a_seed_that_no_generator_takes_is_refused(collection):
    with pytest.raises(InputError, match="seed=-1: it must be an integer, 0 or more"):
        collection.query_rows("train", 2, -1)
