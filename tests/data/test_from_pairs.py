import pandas as pd
import pytest
from datasets import Dataset, DatasetDict

from rankdistill.data import from_pairs
from rankdistill.errors import InputError

TRAIN = pd.DataFrame(
    {"query": ["how deep?", "how wide?", "how deep? "], "positive": ["deep", "wide", "very deep"]}
)
TEST = pd.DataFrame({"query": ["is it wide?", "how wide?"], "positive": ["wide", "wide"]})


@pytest.mark.parametrize(
    "given",
    [
        {"train": TRAIN, "test": TEST},
        DatasetDict({"train": Dataset.from_pandas(TRAIN), "test": Dataset.from_pandas(TEST)}),
    ],
)
def test_texts_that_recur_are_one_query_or_document(given):
    """Else a query's second positive would serve as its negative."""
    found = from_pairs(given)
    assert dict(zip(found.document_ids, found.documents, strict=True)) == {
        "d0": "deep",
        "d1": "wide",
        "d2": "very deep",
    }
    assert dict(zip(found.query_ids, found.queries, strict=True)) == {
        "q0": "how deep?",
        "q1": "how wide?",
        "q2": "is it wide?",
    }
    assert found.qrels == {
        "train": {"q0": {"d0": 1, "d2": 1}, "q1": {"d1": 1}},
        "test": {"q2": {"d1": 1}, "q1": {"d1": 1}},
    }


def test_one_table_with_columns_of_other_names():
    table = TRAIN.rename(columns={"query": "question", "positive": "answer"})
    found = from_pairs(table, query="question", positive="answer", name="lakes")
    assert found.name == "lakes" and set(found.qrels) == {"train"}
    assert found.documents == from_pairs(TRAIN).documents


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (
            TRAIN.rename(columns={"positive": "answer"}),
            "train row 0: no column 'positive'; available: query, answer; name",
        ),
        (
            TRAIN.assign(positive=[["a"], ["b"], ["c"]]),
            "train row 0: column 'positive' holds a list, not a text",
        ),
        (TRAIN.assign(positive=["deep", None, " "]), "^1 empty texts: train row 1"),
        (TRAIN[:0], "documents: no usable row in it"),
        ([("a", "b")], "train: a list, where a pandas DataFrame"),
    ],
)
def test_what_is_wrong_with_pairs_is_named(table, reason):
    with pytest.raises(InputError, match=reason):
        from_pairs(table)


def test_pairs_without_a_text_are_skipped_on_demand():
    found = from_pairs(TRAIN.assign(positive=["deep", None, " "]), invalid="skip")
    assert found.documents == ["deep"] and found.qrels == {"train": {"q0": {"d0": 1}}}
