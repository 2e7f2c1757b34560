"""Parquet, Arrow and hub datasets of other writers."""

import logging
from dataclasses import replace

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import rows_of

from rankdistill.errors import InputError
from rankdistill.scores.formats import read_columns, read_scores, write_scores

EXPECTED = {"q0": {"d0": (1.0, True), "d4": (0.5, False)}, "q2": {"d3": (2.0, True), "d5": (-2.0, False)}}
LISTS = {
    "query_id": ["q0", "q2"],
    "document_ids": [["d0", "d4"], ["d3", "d5"]],
    "scores": [[1.0, 0.5], [2.0, -2.0]],
}
PAIRS = {
    "query_id": ["q0", "q0", "q2", "q2"],
    "corpus_id": ["d0", "d4", "d3", "d5"],
    "score": [1.0, 0.5, 2.0, -2.0],
}


@pytest.mark.parametrize(
    "columns", [LISTS, PAIRS, {"text": ["a", "b"]} | LISTS], ids=["lists", "pairs", "more"]
)
def test_lists_and_pairs(columns, small, tmp_path):
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    assert rows_of(read_columns(tmp_path / "s.parquet", small)) == EXPECTED


def test_ids_may_be_integers_or_encoded(tmp_path, small):
    numbered = type(small)("n", ["0", "1"], ["a", "b"], ["7"], ["c"], {"train": {"7": {"0": 1}}})
    for query, documents in (
        (pa.array([7]), pa.array([[0, 1]])),
        (pa.array(["7"]).dictionary_encode(), pa.array([["0", "1"]], pa.large_list(pa.large_string()))),
    ):
        pq.write_table(
            pa.table({"qid": query, "document_ids": documents, "scores": [[3, 4]]}), tmp_path / "s.parquet"
        )
        found = rows_of(read_columns(tmp_path / "s.parquet", numbered))
        assert found == {"7": {"0": (3, True), "1": (4, False)}}


def test_arrow_as_file_and_as_stream(small, tmp_path):
    table = pa.table(LISTS)
    for name, writer in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        with pa.OSFile(str(tmp_path / f"{name}.arrow"), "wb") as sink, writer(sink, table.schema) as out:
            out.write_table(table)
        assert rows_of(read_columns(tmp_path / f"{name}.arrow", small)) == EXPECTED


def test_a_folder_of_parquet_files(small, tmp_path):
    (tmp_path / "data").mkdir()
    for i in range(2):
        pq.write_table(pa.table(LISTS).slice(i, 1), tmp_path / "data" / f"train-{i}.parquet")
    assert rows_of(read_scores(tmp_path, small)) == EXPECTED


def test_a_folder_that_lacks_a_part_is_refused(small, tmp_path):
    """A copy that was cut off would be half of the scores."""
    first, second = (tmp_path / "data" / f"train-0000{i}-of-00002.parquet" for i in range(2))
    first.parent.mkdir()
    pq.write_table(pa.table(LISTS).slice(0, 1), first)
    with pytest.raises(InputError, match=r"data: 1 of the 2 parts of train-\*; put the others beside them"):
        read_scores(tmp_path, small)
    assert list(rows_of(read_scores(first, small))) == ["q0"]
    pq.write_table(pa.table(LISTS).slice(1, 1), second)
    assert rows_of(read_scores(tmp_path, small)) == EXPECTED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": None}, r"no column with the scores \(scores, score\); available: query_id, document_ids"),
        (
            {"query_id": None},
            r"no column with the query ids \(query_id, .*\); available: document_ids",
        ),
        ({"scores": [[1.0], [2.0, 3.0]]}, "query 'q0' has 2 documents and 1 scores"),
        ({"scores": [None, [2.0, 3.0]]}, "query 'q0' has 2 documents and 0 scores"),
        ({"scores": [1.0, 2.0]}, "must both be lists, or neither"),
        ({"scores": [["a", "b"], ["c", "d"]]}, "scores numbers"),
        (
            {"scores": [[1.0, None], [2.0, 3.0]]},
            "score nan for query 'q0', document 'd4'; teacher scores must be given",
        ),
        ({"document_ids": [[0.5, 1.0], [1.0, 2.0]]}, "ids must be texts or integers"),
    ],
)
def test_bad_columns_are_named(change, message, small, tmp_path):
    columns = {name: values for name, values in (LISTS | change).items() if values is not None}
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    with pytest.raises(InputError, match=f"s.parquet: .*{message}"):
        read_columns(tmp_path / "s.parquet", small)


@pytest.mark.parametrize("name", ["s.parquet", "s.arrow"])
def test_a_damaged_file_is_named(name, small, tmp_path):
    (tmp_path / name).write_bytes(bytes(range(256)) * 9)
    with pytest.raises(InputError, match=f"{name}: damaged"):
        read_columns(tmp_path / name, small)


def test_scores_of_another_version_of_the_texts_are_told(scored, tmp_path, caplog):
    """The ids fit; that the texts are others only the fingerprint tells."""
    write_scores(scored, tmp_path / "s.parquet")
    other = replace(scored.collection, documents=["other"] * 6)
    with caplog.at_level(logging.WARNING):
        assert rows_of(read_columns(tmp_path / "s.parquet", scored.collection)) == rows_of(scored)
        assert "another version" not in caplog.text
        assert rows_of(read_columns(tmp_path / "s.parquet", other)) == rows_of(scored)
    assert "s.parquet: written for another version of small" in caplog.text


def test_a_table_is_pushed_and_read_back_by_name(scored, monkeypatch):
    """Ids and numbers go up, no text, with a card that says whose scores they are."""
    pushed = {}

    def push_to_hub(dataset, name, private=False):
        pushed[name] = dataset, private

    monkeypatch.setattr(datasets.Dataset, "push_to_hub", push_to_hub)
    monkeypatch.setattr(
        huggingface_hub.DatasetCard,
        "load",
        lambda name: huggingface_hub.DatasetCard("---\nconfigs: []\n---\n"),
    )
    monkeypatch.setattr(
        huggingface_hub.DatasetCard,
        "push_to_hub",
        lambda card, name, repo_type: pushed.update({f"{name} card": card.content}),
    )
    scored.push_to_hub("somebody/scores", private=True)
    dataset, private = pushed["somebody/scores"]
    assert private and dataset.column_names == ["query_id", "document_ids", "scores"]
    card = pushed["somebody/scores card"]
    assert "configs" in card and "text 0" not in card
    for print_of in (scored.collection.fingerprint, scored.candidates.fingerprint):
        assert print_of in card

    def load_dataset(name, subset, split):
        assert (name, subset, split) == ("somebody/scores", "some", "train")
        return dataset

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = read_scores("somebody/scores", scored.collection, subset="some")
    assert rows_of(found) == rows_of(scored)


def test_offline_it_is_said_in_one_line(scored):
    with pytest.raises(
        InputError, match="nobody/nothing: no such file, and no dataset .*a local copy"
    ) as error:
        read_scores("nobody/nothing", scored.collection)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="nobody/nothing: cannot be pushed .*; write a file") as error:
        scored.push_to_hub("nobody/nothing")
    assert "\n" not in str(error.value)


def write_rows(folder, **files):
    """``LISTS``, row by row: a file's name (``__`` is a slash) -> which row."""
    for name, row in files.items():
        file = folder / f"{name.replace('__', '/')}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(LISTS).slice(row, 1), file)


FIRST, SECOND = ({query: EXPECTED[query]} for query in ("q0", "q2"))


@pytest.mark.parametrize(
    ("files", "split", "expected"),
    [
        ({"train_0": 0, "test_0": 1}, None, FIRST),
        ({"train_0": 0, "test_0": 1}, "test", SECOND),
        ({"data__train": 0, "data__dev1": 1}, "validation", SECOND),
        ({"train": 0, "validation": 1}, "dev", SECOND),
        ({"validation": 0, "dev": 1}, "dev", SECOND),
        ({"train__0000": 0, "test__0000": 1}, "test", SECOND),
        ({"train_0": 0, "train_1": 1}, "train", EXPECTED),
        ({"trained": 0, "testament": 1}, "test", EXPECTED),
        ({"train__0": 0, "more__0": 1}, "test", EXPECTED),
    ],
)
def test_files_named_for_splits_are_read_by_split(files, split, expected, small, tmp_path):
    write_rows(tmp_path / "s", **files)
    options = {} if split is None else {"split": split}
    assert rows_of(read_scores(tmp_path / "s", small, **options)) == expected


@pytest.mark.parametrize(
    ("files", "split", "message"),
    [
        ({"train_0": 0, "test_0": 1}, "dev", "s: no split 'dev'; available: test, train"),
        ({"test_0": 0, "test_1": 1}, "train", "s: no split 'train'; available: test .teacher.options"),
        ({"train_0": 0, "more": 1}, "train", "s: train_0.parquet is named for a split, more.parquet isn't"),
    ],
)
def test_a_split_that_is_not_there_is_refused(files, split, message, small, tmp_path):
    write_rows(tmp_path / "s", **files)
    with pytest.raises(InputError, match=message):
        read_scores(tmp_path / "s", small, split=split)


def test_the_subset_of_a_folder_is_a_folder_in_it(small, tmp_path):
    write_rows(tmp_path / "s", en__train_0=0, de__train_0=1, de__test_0=0)
    assert rows_of(read_scores(tmp_path / "s", small, subset="de")) == SECOND
    assert rows_of(read_scores(tmp_path / "s", small, subset="de", split="test")) == FIRST
    assert rows_of(read_scores(tmp_path / "s" / "en" / "train_0.parquet", small)) == FIRST
    with pytest.raises(InputError, match="s: no folder fr in it; available: de, en "):
        read_scores(tmp_path / "s", small, subset="fr")
    with pytest.raises(InputError, match=r"train_0.parquet: no folder de in it; available: none"):
        read_scores(tmp_path / "s" / "en" / "train_0.parquet", small, subset="de")


@pytest.mark.parametrize(
    ("score", "said"), [(1e39, r"1e\+39, beyond float32's 3.4e38,"), (float("inf"), "inf")]
)
def test_a_score_beyond_float32_is_told_as_it_was_given(small, tmp_path, score, said):
    pq.write_table(pa.table(PAIRS | {"score": [1.0, score, 2.0, -2.0]}), tmp_path / "s.parquet")
    with pytest.raises(InputError, match=f"score {said} for query 'q0', document 'd4'"):
        read_columns(tmp_path / "s.parquet", small)


def test_a_damaged_name_of_a_column_is_told(small, tmp_path):
    pq.write_table(pa.table(PAIRS), tmp_path / "s.parquet", store_schema=False)
    written = (tmp_path / "s.parquet").read_bytes()
    (tmp_path / "s.parquet").write_bytes(written.replace(b"corpus_id", b"corpus\xffid"))
    with pytest.raises(InputError, match="s.parquet: damaged, or neither Parquet nor Arrow .*utf-8"):
        read_columns(tmp_path / "s.parquet", small)


def test_what_macos_puts_beside_a_file_is_not_read(small, tmp_path):
    pq.write_table(pa.table(PAIRS), tmp_path / "train.parquet")
    (tmp_path / "._train.parquet").write_bytes(b"\0\5\26\7")
    assert rows_of(read_columns(tmp_path, small)) == EXPECTED


def test_a_ranking_in_two_rows_is_none(small, tmp_path):
    """Each would have a best document."""
    table = pa.table({"query_id": ["q0", "q1", "q0"], "document_ids": [["d0"], ["d1"], ["d4", "d2"]]})
    pq.write_table(table, tmp_path / "r.parquet")
    with pytest.raises(InputError, match="r.parquet: query 'q0' again; a row has the whole order of a query"):
        read_columns(tmp_path / "r.parquet", small, by="rank")
