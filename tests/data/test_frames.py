import logging

import numpy as np
import pandas as pd
import pytest
from conftest import tables
from datasets import Dataset, DatasetDict

from rankdistill.data import from_frames
from rankdistill.errors import InputError

DOCUMENTS = pd.DataFrame(
    {"id": [7, 8, 9], "title": ["Lakes", None, np.nan], "text": ["deep", "wide", "far"]}, index=[3, 3, 1]
)
QUERIES = pd.DataFrame({"id": ["q1", "q2"], "text": ["how deep?", "how wide?"]})
QRELS = pd.DataFrame(
    {
        "split": ["train", "test", "test"],
        "query": ["q1", "q2", "q2"],
        "document": [7, 8, 9],
        "grade": [1.0, 2.0, 0.0],
    }
)


@pytest.mark.parametrize(
    "kind", [lambda frame: frame, Dataset.from_pandas, lambda f: Dataset.from_pandas(f).to_iterable_dataset()]
)
def test_tables_of_a_collection_give_it_back(collection, kind):
    assert from_frames(*map(kind, tables(collection))).fingerprint == collection.fingerprint


def test_a_table_for_each_split_gives_it_back(collection):
    documents, queries, qrels = tables(collection)
    parts = {split: part.drop(columns="split") for split, part in qrels.groupby("split")}
    assert from_frames(documents, queries, parts).fingerprint == collection.fingerprint
    parts = DatasetDict(
        {split: Dataset.from_pandas(part, preserve_index=False) for split, part in parts.items()}
    )
    assert from_frames(documents, queries, parts).fingerprint == collection.fingerprint


def test_missing_values_numbers_and_an_index_that_repeats():
    """Integer ids and float grades are what pandas makes of them."""
    found = from_frames(DOCUMENTS, QUERIES, QRELS, name="lakes")
    assert found.name == "lakes"
    assert dict(zip(found.document_ids, found.documents, strict=True)) == {
        "7": "Lakes deep",
        "8": "wide",
        "9": "far",
    }
    assert found.qrels == {"train": {"q1": {"7": 1}}, "test": {"q2": {"8": 2, "9": 0}}}


def test_the_hubs_column_names_do_and_pairs_of_ids_are_relevant():
    qrels = {"test": pd.DataFrame({"query-id": ["q1"], "corpus-id": [9]})}
    found = from_frames(
        DOCUMENTS.rename(columns={"id": "_id"}), QUERIES, qrels, document_template="{text}: {title}"
    )
    assert found.qrels == {"test": {"q1": {"9": 1}}} and found.documents[0] == "deep: Lakes"


def test_rows_of_several_blocks_are_counted_on():
    many = pd.DataFrame({"id": range(2500), "text": ["x"] * 2400 + [""] + ["x"] * 99})
    with pytest.raises(InputError, match="^1 empty texts: documents row 2400; .*skip"):
        from_frames(many, QUERIES, {})
    assert len(from_frames(Dataset.from_pandas(many), QUERIES, {}, invalid="skip").documents) == 2499


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"documents": DOCUMENTS.drop(columns="id")},
            "documents row 0: no field _id or id .*; available: title, text",
        ),
        ({"documents": DOCUMENTS.assign(id=[1.5, 2, 3])}, "documents row 0: expected an id and the strings"),
        ({"queries": QUERIES.assign(text=[1, 2])}, "queries row 0: expected an id and the strings text"),
        (
            {"queries": QUERIES.rename(columns={"text": "body"})},
            "queries: no row has the field text; available: id, body",
        ),
        ({"queries": QUERIES[:0]}, "queries: no usable row in it"),
        ({"queries": [("q1", "text")]}, "queries: a list, where a pandas DataFrame or a datasets.Dataset"),
        (
            {"documents": DatasetDict({"train": Dataset.from_pandas(QUERIES)})},
            "a DatasetDict of train; give one of",
        ),
        ({"qrels": QRELS.drop(columns="split")}, "qrels row 0: no split; give a column split, or a dict"),
        (
            {"qrels": QRELS.assign(grade=[1, 0.5, 2])},
            "qrels row 1: expected query, document and a whole grade",
        ),
        (
            {"qrels": QRELS.rename(columns={"grade": "label"})},
            "qrels row 0: no field score or relevance or grade .*; available: .*label",
        ),
        (
            {"qrels": {"train": QRELS.assign(split="train"), "test": QRELS.assign(split="train")}},
            "qrels of test row 0: its column split says 'train'; give the table itself as qrels, or leave",
        ),
        ({"qrels": QRELS.assign(document=7.0)}, "qrels row 0: expected query, document"),
        ({"qrels": QRELS.assign(query="q9")}, "^3 judgments of unknown queries: qrels row 0 .q9.*skip"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(changes, reason):
    given = {"documents": DOCUMENTS, "queries": QUERIES, "qrels": QRELS} | changes
    with pytest.raises(InputError, match=reason) as error:
        from_frames(**given)
    assert "\n" not in str(error.value)


def test_faults_are_skipped_on_demand(caplog):
    with caplog.at_level(logging.WARNING):
        found = from_frames(DOCUMENTS, QUERIES, QRELS.assign(query=["q9", "q2", "q2"]), invalid="skip")
    assert found.qrels == {"train": {}, "test": {"q2": {"8": 2, "9": 0}}}
    assert "skipped 1 judgments of unknown queries" in caplog.text
