import dataclasses
import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rankdistill.candidates import BM25, Random, mine
from rankdistill.data import Candidates, Collection
from rankdistill.data.candidates import to_arrow, write_arrow
from rankdistill.errors import InputError
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.environment import cache_folder
from rankdistill.samplers import RandomSampler
from rankdistill.scores import ScoreTable
from rankdistill.training import TrainingGroups

ARRAYS = ("query_rows", "offsets", "document_rows", "positive")


@pytest.fixture
def saved(table, tmp_path):
    table.save(tmp_path / "new" / "table.arrow")
    return tmp_path / "new" / "table.arrow"


def test_what_is_saved_loads_the_same(table, collection, saved):
    loaded = ScoreTable.load(saved, collection, table.candidates, "words")
    for name in ARRAYS:
        expected, found = getattr(table.candidates, name), getattr(loaded.candidates, name)
        assert found.dtype == expected.dtype and np.array_equal(found, expected), name
    assert list(loaded.candidates.ranks) == list(table.candidates.ranks) != []
    for name, expected in table.candidates.ranks.items():
        found = loaded.candidates.ranks[name]
        assert found.dtype == np.uint16 and np.array_equal(found, expected), name
    assert loaded.scores.dtype == np.float32 and np.array_equal(loaded.scores, table.scores)
    assert loaded.teacher == "words" and len(loaded) == 16
    assert loaded.candidates.fingerprint == table.candidates.fingerprint


def test_a_loaded_table_can_be_sent_to_a_spawned_worker(table, collection, saved):
    loaded = pickle.loads(pickle.dumps(ScoreTable.load(saved, collection)))
    assert np.array_equal(loaded.scores, table.scores) and loaded.teacher == "words"
    for found, expected in zip(loaded.pool(3), table.pool(3), strict=True):
        assert np.array_equal(found, expected)
    loaded.release()  # of nothing


def test_a_pool_is_one_query_of_it(table):
    rows, scores, positive = table.pool(3)
    span = slice(*table.candidates.offsets[3:5])
    assert np.array_equal(rows, table.candidates.document_rows[span])
    assert np.array_equal(scores, table.scores[span])
    assert rows[positive].tolist() == [3]


def test_what_is_taken_is_the_same_pools_in_the_order_asked_for(table, collection, tmp_path):
    taken = table.take([5, 0, 9])
    assert taken.candidates.query_rows.tolist() == table.candidates.query_rows[[5, 0, 9]].tolist()
    for i, query in enumerate([5, 0, 9]):
        for found, expected in zip(taken.pool(i), table.pool(query), strict=True):
            assert found.dtype == expected.dtype and np.array_equal(found, expected)
        spans = taken.candidates.pool(i), table.candidates.pool(query)
        for name, ranks in table.candidates.ranks.items():
            assert np.array_equal(taken.candidates.ranks[name][spans[0]], ranks[spans[1]])
    assert taken.teacher == "words" and taken.candidates.fingerprint != table.candidates.fingerprint
    taken.save(tmp_path / "taken.arrow")
    assert np.array_equal(ScoreTable.load(tmp_path / "taken.arrow", collection).scores, taken.scores)


def test_of_a_pool_single_candidates_can_be_taken(table):
    taken = table.take([3, 1], [np.array([0, 4]), np.array([2])])
    assert taken.candidates.offsets.tolist() == [0, 2, 3]
    assert taken.pool(0)[1].tolist() == table.pool(3)[1][[0, 4]].tolist()
    assert taken.pool(1)[0].tolist() == table.pool(1)[0][[2]].tolist()


NO_PLACES = [
    ([1, 2, 1], "queries: one is there twice; give each once"),
    ([1, 16], "queries: 16 is no place here; there are 0 to 15"),
    ([-1, 2], "queries: -1 is no place here; there are 0 to 15"),
    ([0.5, 1], r"queries=\[0.5, 1\]: it must be a list of integers, places from 0"),
    ([1.0, 2.0], r"queries=\[1.0, 2.0\]: it must be a list of integers"),
    (np.arange(16) < 3, "queries=array.*: it must be .* integers, places from 0; of a mask give np.flatnonz"),
    ([True, False], r"queries=\[True, False\]: .*; of a mask give np.flatnonzero\(mask\)"),
    (3, "queries=3: it must be a list"),
    (["q1"], r"queries=\['q1'\]: it must be a list of integers"),
    ([[1], [2, 3]], r"queries=\[\[1\], \[2, 3\]\]: it must be a list of integers"),
    (None, "queries=None: it must be a list"),
]


@pytest.mark.parametrize(("queries", "message"), NO_PLACES)
def test_what_cannot_be_taken_is_said(table, queries, message):
    """Floats were cut, and a mask was taken for the queries 0 and 1, both in silence."""
    for pools in (table, table.candidates):
        with pytest.raises(InputError, match=message):
            pools.take(queries)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([[0, -1], [1]], "places: -1 is no place here"),
        ([[2, 1], [1]], r"places=\[2, 1\]: those of a query must ascend"),
        ([[0.0], [1]], r"places=\[0.0\]: it must be a list of integers"),
        ([[0, 99], [1]], "places: 99 is no place here"),
        ([[0]], "places: there are 1, for 2 queries; give one each"),
    ],
)
def test_candidates_that_cannot_be_taken_are_said(table, places, message):
    """A negative one took another document, and those that do not ascend were taken for sorted ones."""
    with pytest.raises(InputError, match=message):
        table.take([3, 1], places)


@pytest.mark.parametrize("i", [-1, 16, 0.5, "1", True, None])
def test_a_query_that_is_not_there_has_no_pool(table, i):
    for pools in (table, table.candidates):
        with pytest.raises(InputError, match="query|^i="):
            pools.pool(i)


@pytest.mark.parametrize("retriever", [BM25(2), Random(2)], ids=["bm25", "random"])
def test_a_retriever_asks_for_rows_of_queries(collection, retriever):
    for rows in ([-1], [0.5], [len(collection.queries)], ["q1"]):
        with pytest.raises(InputError, match="query_rows"):
            retriever.retrieve(collection, rows)
    assert retriever.retrieve(collection, [1, 1]).shape == (2, 2)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        (
            "query_rows",
            lambda x: x.astype(float),
            "query_rows must be integers in one dimension, not float64",
        ),
        (
            "document_rows",
            lambda x: x.tolist(),
            "document_rows must be integers in one dimension, not list",
        ),
        ("offsets", lambda x: x[:-1], "offsets must ascend from 0 to"),
        ("offsets", lambda x: x[::-1], "offsets must ascend from 0 to"),
    ],
)
def test_arrays_of_another_kind_make_no_table(table, name, given, message):
    candidates = table.candidates
    with pytest.raises(InputError, match=message):
        ScoreTable(dataclasses.replace(candidates, **{name: given(getattr(candidates, name))}), table.scores)


def test_other_readers_see_ids_and_scores(table, collection, saved):
    """The layout is the one that the ecosystem exchanges: real document ids, as strings."""
    with pa.OSFile(str(saved)) as file:
        row = pa.ipc.open_file(file).read_all().slice(2, 1).to_pylist()[0]
    rows, scores, positive = table.pool(2)
    assert row["query_id"] == "q2"
    assert row["document_ids"] == [f"d{i}" for i in rows]
    assert row["scores"] == scores.tolist()
    assert row["positive"] == positive.tolist()
    for name, ranks in table.candidates.ranks.items():
        assert row[f"ranks.{name}"] == ranks[table.candidates.pool(2)].tolist()


def test_a_loaded_table_stays_on_disk(collection, tmp_path):
    n = 200_000
    candidates = Candidates(
        collection,
        np.array([0]),
        np.array([0, n]),
        (np.arange(n) % 60).astype(np.int32),
        np.zeros(n, bool),
        {"bm25": np.zeros(n, np.uint16)},
    )
    ScoreTable(candidates, np.zeros(n, np.float32), trusted=True).save(tmp_path / "big.arrow")
    before = pa.total_allocated_bytes()
    loaded = ScoreTable.load(tmp_path / "big.arrow", collection)
    assert pa.total_allocated_bytes() - before < 10_000 and loaded.scores.nbytes == 4 * n


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident memory from /proc")
def test_what_was_read_of_a_table_is_given_back_while_groups_are_drawn(collection, tmp_path, monkeypatch):
    """Else a process that samples from a table of 1 GB holds 1 GB, and so does every worker."""
    queries, n = 16, 250_000
    candidates = Candidates(
        collection,
        np.arange(queries),
        np.arange(queries + 1) * n,
        np.tile((np.arange(n) % 60).astype(np.int32), queries),
        np.zeros(queries * n, bool),
        {"bm25": np.zeros(queries * n, np.uint16)},
    )
    scores = np.random.default_rng(0).normal(size=queries * n).astype(np.float32)
    ScoreTable(candidates, scores, trusted=True).save(tmp_path / "big.arrow")
    loaded = ScoreTable.load(tmp_path / "big.arrow", collection)

    def mapped() -> int:  # bytes of files in memory
        return int(Path("/proc/self/statm").read_text().split()[2]) * 4096

    empty = mapped()
    assert loaded.scores.sum() == scores.sum() and mapped() - empty > 0.9 * scores.nbytes
    loaded.release()
    assert mapped() - empty < 1e6
    monkeypatch.setattr("rankdistill.training.groups.RELEASE", 4)
    groups = TrainingGroups(loaded, RandomSampler())
    for i in range(queries):
        assert np.isin(groups[i].teacher, scores[i * n : (i + 1) * n]).all()
    assert mapped() - empty < 9 * queries * n / 3, "of 9 bytes a candidate, the last few pools alone"


def test_a_table_of_other_documents_is_refused(collection, saved):
    other = dataclasses.replace(
        collection, document_ids=[*collection.document_ids, "more"], documents=[*collection.documents, "more"]
    )
    with pytest.raises(InputError, match="table.arrow: belongs to another collection"):
        ScoreTable.load(saved, other)


def test_a_table_of_other_queries_is_refused(collection, saved):
    other = Collection("other", collection.document_ids, collection.documents, ["x"], ["w1"], {})
    with pytest.raises(InputError, match="table.arrow: belongs to another collection than other"):
        ScoreTable.load(saved, other)


def test_a_table_of_other_texts_under_the_same_ids_is_refused(collection, saved):
    """Ids of python_functions are names: another version of a package has other texts under them."""
    other = dataclasses.replace(collection, documents=[text + " changed" for text in collection.documents])
    with pytest.raises(InputError, match="another collection"):
        ScoreTable.load(saved, other)


def test_a_table_of_other_candidates_is_refused(collection, saved):
    with pytest.raises(InputError, match="table.arrow: scores of another candidate .*delete it"):
        ScoreTable.load(saved, collection, mine(collection, [BM25(5)]))


def test_a_table_of_another_teacher_is_refused(collection, saved):
    with pytest.raises(InputError, match=r"table.arrow: scores of another teacher \(words, not numbers\)"):
        ScoreTable.load(saved, collection, teacher="numbers")


def test_a_missing_table_is_named(collection, tmp_path):
    with pytest.raises(InputError, match="none.arrow: no such file"):
        ScoreTable.load(tmp_path / "none.arrow", collection)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:-1],
        lambda raw: b"",
        lambda raw: bytes(range(256)) * 9,
    ],
    ids=["half", "last-byte", "empty", "garbage"],
)
def test_a_damaged_table_is_named(collection, saved, damage):
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(InputError, match="table.arrow: damaged .*delete it"):
        ScoreTable.load(saved, collection)


def test_a_file_without_scores_is_named(table, collection, tmp_path):
    write_arrow(to_arrow(table.candidates), tmp_path / "candidates.arrow")
    with pytest.raises(InputError, match="candidates.arrow"):
        ScoreTable.load(tmp_path / "candidates.arrow", collection)


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_raise_with_the_query_and_document(table, score):
    scores = table.scores.copy()
    at = table.candidates.offsets[5] + 1
    scores[at] = score
    document = table.candidates.document_rows[at]
    with pytest.raises(InputError, match=f"{score} for query 'q5', document 'd{document}'"):
        ScoreTable(table.candidates, scores)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query_rows": [2, 2]}, "a query is there twice"),
        ({"query_rows": [2, 24]}, "query rows 2 to 24, but tiny has 24"),
        ({"document_rows": [1, 5, 9, 3, 3]}, "a query's documents repeat or do not ascend"),
        ({"document_rows": [1, 9, 5, 3, 4]}, "a query's documents repeat or do not ascend"),
        ({"document_rows": [-1, 5, 9, 3, 4]}, "document rows -1 to 9, but tiny has 60"),
        ({"positive": np.zeros(5, np.uint8)}, r"positive must be bool \(5,\), not uint8 \(5,\)"),
        ({"ranks": {"e5": np.zeros(4, np.uint16)}}, r"e5 must be uint16 \(5,\), not uint16 \(4,\)"),
        ({"ranks": {"e5": np.zeros(5, int)}}, r"e5 must be uint16 \(5,\), not int64 \(5,\)"),
    ],
)
def test_a_table_made_by_hand_is_checked(collection, changed, message):
    """In-batch negatives are looked up by bisection: of a pool that does not ascend they are others."""
    parts = {"query_rows": [2, 3], "document_rows": [1, 5, 9, 3, 4]}

    def table(**parts):
        rows = np.array(parts["document_rows"], np.int32)
        given = {"positive": np.zeros(5, bool), "ranks": {"bm25": np.zeros(5, np.uint16)}} | parts
        columns = given["positive"], given["ranks"]
        return ScoreTable(
            Candidates(collection, np.array(parts["query_rows"]), np.array([0, 3, 5]), rows, *columns),
            [1, 2, 3, 4, 1e8],
        )

    assert table(**parts).scores.dtype == np.float32 and len(table(**parts)) == 2
    with pytest.raises(InputError, match=f"score table: {message}"):
        table(**parts | changed)


@pytest.mark.parametrize("shape", [lambda s: s[:-1], lambda s: s[:, None]])
def test_scores_that_do_not_match_the_candidates_raise(table, shape):
    with pytest.raises(InputError, match=f"scores for {len(table.scores)} candidates"):
        ScoreTable(table.candidates, shape(table.scores))


def test_a_place_that_cannot_be_written_is_named_and_left_clean(table, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="file/table.arrow: cannot be written"):
        table.save(tmp_path / "file" / "table.arrow")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder: cannot be written"):
        table.save(tmp_path / "folder")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]


def test_saving_again_replaces_the_table(table, collection, saved):
    ScoreTable(table.candidates, table.scores + 1, "other").save(saved)
    assert np.array_equal(ScoreTable.load(saved, collection, teacher="other").scores, table.scores + 1)
    assert [file.name for file in saved.parent.iterdir()] == ["table.arrow"]


def foreign(path, columns, collection):
    """A table that somebody else wrote: no seal."""
    table = pa.table(columns).replace_schema_metadata({"collection": collection.fingerprint})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def lists(values, counts, kind):
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, pa.array(values, kind) if kind else values)


def columns_of(collection, rows, ids=None, scores=(1.0, 2.0, 3.0)):
    names = pa.array(ids or list(collection.document_ids), pa.large_string())
    return {
        "query_id": pa.array(["q0", "q1"]),
        "document_ids": lists(
            pa.DictionaryArray.from_arrays(pa.array(rows, pa.int32()), names), [2, 1], None
        ),
        "positive": lists([1, 0, 1], [2, 1], pa.uint8()),
        "ranks.bm25": lists([0, 1, 0], [2, 1], pa.uint16()),
        "scores": lists(list(scores), [2, 1], pa.float32()),
    }


def test_a_table_of_another_writer_is_checked_once_and_sealed(collection, tmp_path, monkeypatch):
    path = foreign(tmp_path / "theirs.arrow", columns_of(collection, [0, 5, 1]), collection)
    loaded = ScoreTable.load(path, collection)
    assert loaded.candidates.query_rows.tolist() == [0, 1]
    assert loaded.pool(0)[0].tolist() == [0, 5] and loaded.pool(0)[1].tolist() == [1.0, 2.0]
    assert [file.name for file in tmp_path.iterdir()] == ["theirs.arrow"], "nothing beside somebody's file"
    monkeypatch.setattr("rankdistill.data.candidates.check_pools", None)  # not called again
    again = ScoreTable.load(path, collection)
    assert np.array_equal(again.scores, loaded.scores)
    assert again.candidates.fingerprint == loaded.candidates.fingerprint


@pytest.mark.parametrize("keep_time", [True, False])
def test_a_seal_beside_somebodys_file_is_not_trusted(collection, table, tmp_path, keep_time):
    """Nor the seal of a file that was there before, with the same name, size and time."""
    path = tmp_path / "theirs.arrow"
    foreign(path, columns_of(collection, [0, 5, 1]), collection)
    ScoreTable.load(path, collection)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    foreign(path, columns_of(collection, [5, 5, 1]), collection)
    if keep_time:
        os.utime(path, ns=times)
    found = path.stat()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    old = {"sha256": digest, "size": found.st_size, "mtime_ns": found.st_mtime_ns}
    states = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    for stamp in (old, {"files": {path.name: states}, "sha256": {path.name: digest}}):
        path.with_name(f"{path.name}.sha256").write_text(json.dumps(stamp))
        with pytest.raises(InputError, match="repeat"):
            ScoreTable.load(path, collection)


def of_lengths(column, counts):
    """``column`` in lists of other lengths."""
    return lists(column.values, counts, None)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("query_id", lambda column, c: pa.array(["q0", "q0"]), "a query is there twice"),
        ("query_id", lambda column, c: pa.array(["q0", None]), "query_id has places without a value"),
        ("query_id", lambda column, c: pa.array(["q0", "x"]), "queries that tiny does not have: 'x'"),
        ("document_ids", lambda column, c: None, "one column document_ids; available: query_id, positive"),
        ("positive", lambda column, c: lists([1, 0, 3], [2, 1], pa.uint8()), "positive holds 3; it must be"),
        (
            "positive",
            lambda column, c: lists([1, 0, 1], [2, 1], pa.int64()),
            "positive holds int64, not uint8",
        ),
        ("positive", lambda column, c: pa.array([1, 0], pa.uint8()), "positive is uint8, not a list"),
        ("ranks.bm25", lambda column, c: of_lengths(column, [1, 2]), "ranks.bm25 has lists of lengths other"),
        (
            "ranks.bm25",
            lambda column, c: lists([0, None, 0], [2, 1], pa.uint16()),
            "ranks.bm25 has places with",
        ),
        ("ranks.bm25", lambda column, c: lists([0, 1, 0], [2, 1], pa.int32()), "ranks.bm25 holds int32, not"),
        (
            "scores",
            lambda column, c: lists([1, 2, 3], [2, 1], pa.float64()),
            "scores holds double, not float",
        ),
        ("scores", lambda column, c: of_lengths(column, [1, 2]), "scores has lists of lengths other"),
    ],
)
def test_columns_of_another_writer_are_checked(collection, tmp_path, name, change, message):
    columns = columns_of(collection, [0, 5, 1])
    columns[name] = change(columns[name], collection)
    columns = {key: column for key, column in columns.items() if column is not None}
    path = foreign(tmp_path / "theirs.arrow", columns, collection)
    with pytest.raises(InputError, match=message):
        ScoreTable.load(path, collection)


def earlier(collection, bits, best, fingerprinted=True):
    """A table as it was written until sources had names: bits, and the best rank alone."""
    columns = columns_of(collection, [0, 5, 1])
    del columns["positive"], columns["ranks.bm25"]
    columns |= {"sources": lists(bits, [2, 1], pa.uint8()), "ranks": lists(best, [2, 1], pa.uint16())}
    arrays = [np.array(x, kind) for x, kind in (
        ([0, 1], np.int64), ([0, 2, 3], np.int64), ([0, 5, 1], np.int32), (bits, np.uint8), (best, np.uint16)
    )]  # fmt: skip
    digest = fingerprint(collection.fingerprint, [hashlib.sha256(x.tobytes()).hexdigest() for x in arrays])
    metadata = {"collection": collection.fingerprint, "teacher": "then"}
    return pa.table(columns).replace_schema_metadata(
        metadata | ({"candidates": digest} if fingerprinted else {})
    ), digest


NONE, DRAWN = 65535, 65534


@pytest.mark.parametrize("own", [True, False], ids=["ours", "theirs"])
@pytest.mark.parametrize(
    ("bits", "best", "ranks"),
    [
        ([8, 1, 9], [NONE, 3, 0], {"bm25": [NONE, 3, 0]}),
        ([8 | 4, 1, 2], [NONE, 3, 0], {"bm25+dense": [NONE, 3, 0], "random": [DRAWN, NONE, NONE]}),
        ([24, 16, 24], [1, 0, 65534], {"file": [1, 0, 65533]}),
        ([8, 0, 8], [NONE, NONE, NONE], {}),
    ],
)
def test_tables_of_an_earlier_version_are_read(collection, tmp_path, bits, best, ranks, own):
    """What they know: labels, which were drawn at random, and the best rank of all that rank."""
    written, digest = earlier(collection, bits, best, own)
    path = tmp_path / "then.arrow"
    if own:
        write_arrow(written, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, written.schema) as writer:
            writer.write_table(written)
    for _ in range(2):  # read whole, and sealed
        found = ScoreTable.load(path, collection)
        assert found.candidates.positive.tolist() == [bool(x & 8) for x in bits]
        assert {name: x.tolist() for name, x in found.candidates.ranks.items()} == ranks
        assert found.candidates.fingerprint == digest and found.teacher == "then"
        assert found.scores.tolist() == [1, 2, 3]
    found.save(tmp_path / "now.arrow")
    again = ScoreTable.load(tmp_path / "now.arrow", collection)
    assert {name: x.tolist() for name, x in again.candidates.ranks.items()} == ranks


def test_a_changed_table_of_an_earlier_version_is_refused(collection, tmp_path):
    written, _ = earlier(collection, [8, 1, 9], [NONE, 3, 0])
    columns = {name: written.column(name) for name in written.column_names}
    columns["ranks"] = lists([NONE, 2, 0], [2, 1], pa.uint16())
    path = tmp_path / "then.arrow"
    for change, message in (
        (columns, "damaged or edited"),
        (columns | {"sources": lists([8, 1, 64], [2, 1], pa.uint8())}, "unknown sources"),
    ):
        table = pa.table(change).replace_schema_metadata(written.schema.metadata)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        with pytest.raises(InputError, match=message):
            ScoreTable.load(path, collection)


def test_queries_encoded_in_an_order_of_their_own_are_looked_up(collection, tmp_path):
    """Their indices are rows of their dictionary, not of the collection."""
    names = pa.array(["q3", "q7"], pa.large_string())
    columns = columns_of(collection, [0, 5, 1])
    columns["query_id"] = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int32()), names)
    path = foreign(tmp_path / "theirs.arrow", columns, collection)
    assert ScoreTable.load(path, collection).candidates.query_rows.tolist() == [7, 3]


def test_a_table_without_queries_is_refused(collection, tmp_path):
    columns = {name: column[:0] for name, column in columns_of(collection, [0, 5, 1]).items()}
    path = foreign(tmp_path / "theirs.arrow", columns, collection)
    with pytest.raises(InputError, match="no query in it"):
        ScoreTable.load(path, collection)


@pytest.mark.parametrize(
    ("rows", "ids", "scores", "message"),
    [
        ([5, 0, 1], None, (1, 2, 3), "do not ascend"),
        ([5, 5, 1], None, (1, 2, 3), "repeat"),
        ([0, 5, 1], [f"x{i}" for i in range(60)], (1, 2, 3), "are not those of"),
        ([0, 5, 1], None, (1, np.nan, 3), "nan for query 'q0', document 'd5'"),
    ],
)
def test_what_is_wrong_with_a_table_of_another_writer_is_said(
    collection, tmp_path, rows, ids, scores, message
):
    path = foreign(tmp_path / "theirs.arrow", columns_of(collection, rows, ids, scores), collection)
    for _ in range(2):  # and it is not sealed by having been looked at
        with pytest.raises(InputError, match=message):
            ScoreTable.load(path, collection)


@pytest.mark.parametrize("column", ["scores", "ranks", "query_id"])
@pytest.mark.parametrize("cached", [True, False])
def test_a_changed_byte_is_found(table, collection, tmp_path, column, cached):
    """By the checksum in the cache, by the fingerprints in the file elsewhere."""
    saved = (cache_folder() if cached else tmp_path) / "table.arrow"
    table.save(saved)
    arrays = {
        "scores": table.scores,
        "ranks": table.candidates.ranks["bm25"],
        "query_id": table.candidates.query_rows.astype(np.int32),
    }
    raw = bytearray(saved.read_bytes())
    raw[bytes(raw).index(arrays[column].tobytes())] ^= 1  # a finite score, a rank, the row of a query yet
    saved.write_bytes(raw)
    with pytest.raises(InputError, match=r"damaged (or edited )?\(it does not match|a query is there twice"):
        ScoreTable.load(saved, collection)


def test_a_copied_table_is_the_same(table, collection, saved, tmp_path):
    (tmp_path / "copy.arrow").write_bytes(saved.read_bytes())
    assert np.array_equal(ScoreTable.load(tmp_path / "copy.arrow", collection).scores, table.scores)
