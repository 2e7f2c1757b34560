"""What a score table holds besides the scores: columns and pairs go wherever the candidates go."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdistill.data import Candidates, Collection
from rankdistill.errors import InputError
from rankdistill.scores import ScoreTable
from rankdistill.scores.preferences import Pairs

NAMES = [f"x{i}" for i in range(30)]
# The queries are documents too; odd ones are of train, even ones of test.
QRELS = {
    "train": {f"x{i}": {f"x{(7 * i + j) % 30}": j % 3 for j in range(9)} for i in range(1, 12, 2)},
    "test": {f"x{i}": {f"x{(5 * i + j) % 30}": j % 2 for j in range(9)} for i in range(0, 12, 2)},
}
TEXTS = [f"text {i}" for i in range(30)]
WHOLE = Collection("whole", NAMES, TEXTS, NAMES[:12], TEXTS[:12], QRELS)
OWN = {q for q in NAMES[:12] if not any(qrels.get(q, {}).get(q) for qrels in QRELS.values())}


def drawn(seed, queries=8):
    """A table of random pools, some empty of pairs, with two columns of scores and one of grades."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, queries)
    rows = np.concatenate([np.sort(rng.choice(30, n, replace=False)) for n in sizes]).astype(np.int32)
    counts = np.array([0 if n < 2 else rng.integers(6) for n in sizes])
    places = [rng.choice(n, 2, replace=False) for n, c in zip(sizes, counts, strict=True) for _ in range(c)]
    first, second = np.array(places, np.int32).reshape(-1, 2).T
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    ranks = {"bm25": rng.integers(0, 50, len(rows)).astype(np.uint16)}
    candidates = Candidates(
        WHOLE, rng.choice(12, queries, replace=False), offsets, rows, rng.random(len(rows)) < 0.3, ranks
    )
    pairs = Pairs(
        np.concatenate([[0], np.cumsum(counts)]),
        first.copy(),
        second.copy(),
        rng.random(len(first)).astype(np.float32),
    )
    columns = {name: rng.normal(size=len(rows)).astype(np.float32) for name in ("small", "large")}
    columns["grades"] = rng.integers(-1, 4, len(rows)).astype(np.int16)
    return ScoreTable(
        candidates, rng.normal(size=len(rows)).astype(np.float32), "drawn", columns=columns, pairs=pairs
    )


def said(table):
    """query id -> document id -> every number of it; query id -> (document ids of a pair, p), in order."""
    documents, pairs = {}, {}
    names = [name for name in table.offers if name != "pairs"]
    for i, row in enumerate(table.candidates.query_rows):
        query, span = NAMES[row], table.candidates.pool(i)
        rows = table.candidates.document_rows[span]
        numbers = zip(*(table.column(name, span).tolist() for name in names), strict=True)
        documents[query] = {
            NAMES[d]: dict(zip(names, x, strict=True)) for d, x in zip(rows, numbers, strict=True)
        }
        pairs[query] = [
            (NAMES[rows[a]], NAMES[rows[b]], p)
            for a, b, p in zip(*(x.tolist() for x in table.pairs.of(i)), strict=True)
        ]
    return documents, pairs


def expected(table, queries, shown):
    """``said`` of ``queries`` alone, of each the documents that ``shown(query, document)``, in dicts."""
    documents, pairs = said(table)
    return (
        {q: {d: x for d, x in documents[q].items() if shown(q, d)} for q in queries},
        {q: [x for x in pairs[q] if shown(q, x[0]) and shown(q, x[1])] for q in queries},
    )


seeds = given(seed=st.integers(0, 10**6))
often = settings(max_examples=60, deadline=None, database=None, derandomize=True)


@often
@seeds
def test_what_is_taken_has_its_columns_and_pairs(seed):
    table, rng = drawn(seed), np.random.default_rng(seed)
    taken = rng.permutation(8)[: rng.integers(1, 9)]
    ids = [NAMES[row] for row in table.candidates.query_rows[taken]]
    found = table.take(taken)
    assert said(found) == expected(table, ids, lambda q, d: True)
    assert list(said(found)[0]) == ids
    places = [np.flatnonzero(rng.random(n) < 0.6) for n in np.diff(table.candidates.offsets)[taken]]
    kept = {
        query: {
            NAMES[table.candidates.document_rows[table.candidates.offsets[i] + place]] for place in chosen
        }
        for query, i, chosen in zip(ids, taken, places, strict=True)
    }
    assert said(table.take(taken, places)) == expected(table, ids, lambda q, d: d in kept[q])


@often
@seeds
def test_without_the_queries_themselves_it_has_its_columns_and_pairs(seed):
    table = drawn(seed)
    ids = [NAMES[row] for row in table.candidates.query_rows]
    assert said(table.without_own()) == expected(table, ids, lambda q, d: q != d or q not in OWN)


@often
@seeds
def test_of_a_split_it_has_its_columns_and_pairs(seed):
    table = drawn(seed)
    found = table.of_split("train")
    kept = [
        query
        for query, documents in said(table)[0].items()
        if any(
            QRELS["train"].get(query, {}).get(d, 0) > 0 for d in documents if d != query or query not in OWN
        )
    ]
    assert said(found) == expected(table, kept, lambda q, d: q != d or q not in OWN)


@often
@seeds
def test_what_is_saved_loads_the_same(seed, tmp_path_factory):
    table, path = drawn(seed), tmp_path_factory.mktemp("saved") / "table.arrow"
    table.save(path)
    loaded = ScoreTable.load(path, WHOLE)
    assert said(loaded) == said(table) and loaded.offers == table.offers
    assert loaded.digests == table.digests and loaded.mapped is not None
    for array in [*loaded.columns.values(), *loaded.pairs.columns.values()]:
        assert not array.flags.writeable, "it lies in the file"
    copy = path.with_name("copy.arrow")  # of which nothing is known: it is read whole
    copy.write_bytes(path.read_bytes())
    assert said(ScoreTable.load(copy, WHOLE)) == said(table)


def test_without_columns_nothing_is_added_to_a_file(table, collection, tmp_path):
    table.save(tmp_path / "table.arrow")
    with pa.OSFile(str(tmp_path / "table.arrow")) as file:
        names = pa.ipc.open_file(file).schema.names
    assert names == ["query_id", "document_ids", "positive", *table.offers[1:], "scores"]
    loaded = ScoreTable.load(tmp_path / "table.arrow", collection)
    assert loaded.columns == {} and loaded.pairs is None and loaded.digests == {}


@pytest.mark.parametrize("name", ["small", "grades", "probability", "first"])
def test_a_changed_column_is_found(name, tmp_path):
    table = drawn(3)
    table.save(tmp_path / "table.arrow")
    values = (table.columns | table.pairs.columns)[name]
    raw = bytearray((tmp_path / "table.arrow").read_bytes())
    raw[bytes(raw).index(values.tobytes())] ^= 1
    (tmp_path / "table.arrow").write_bytes(raw)
    with pytest.raises(InputError, match="damaged or edited|a pair is not of two candidates"):
        ScoreTable.load(tmp_path / "table.arrow", WHOLE)


def changed(**parts):
    return lambda table: dataclasses.replace(table, **{name: part(table) for name, part in parts.items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            changed(columns=lambda t: {"a": t.scores[1:]}),
            r"column a must be float32 or int16 \(\d+,\), not float",
        ),
        (changed(columns=lambda t: {"a": t.scores.astype(float)}), "column a must be float32 or int16"),
        (
            changed(columns=lambda t: {"a": t.scores * np.float32(np.nan)}),
            "column a holds what is not finite",
        ),
        (changed(columns=lambda t: {"pairs": t.scores}), "must not be called 'pairs'"),
        (changed(columns=lambda t: {"ranks.bm25": t.scores}), "must not be called 'ranks.bm25'"),
        (
            changed(pairs=lambda t: dataclasses.replace(t.pairs, offsets=t.pairs.offsets[:-1])),
            "pairs of 7 queries",
        ),
        (changed(pairs=lambda t: dataclasses.replace(t.pairs, first=t.pairs.first[1:])), "one each"),
        (
            changed(pairs=lambda t: dataclasses.replace(t.pairs, first=t.pairs.first + 9)),
            "a pair is not of two",
        ),
        (changed(pairs=lambda t: dataclasses.replace(t.pairs, first=t.pairs.second)), "a pair is not of two"),
        (
            changed(pairs=lambda t: dataclasses.replace(t.pairs, probability=t.pairs.probability + 1)),
            r"a pair's probability is 1\.\d+; it must be from 0 to 1",
        ),
    ],
)
def test_what_is_wrong_with_a_column_is_said(change, message):
    with pytest.raises(InputError, match=f"^score table: .*{message}"):
        change(drawn(1))


def test_files_of_others_are_checked(tmp_path):
    drawn(1).save(tmp_path / "table.arrow")
    with pa.OSFile(str(tmp_path / "table.arrow")) as file:
        whole = pa.ipc.open_file(file).read_all()
    for name, kind, message in (
        ("columns.small", pa.float64(), "columns.small holds double, neither float32 nor int16"),
        ("pairs.second", pa.int64(), "pairs.second holds int64, not int32"),
    ):
        at = whole.column_names.index(name)
        other = whole.set_column(at, name, whole.column(name).cast(pa.large_list(kind)))
        path = tmp_path / f"{name}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, other.schema) as writer:
            writer.write_table(other)
        with pytest.raises(InputError, match=message):
            ScoreTable.load(path, WHOLE)
    path = tmp_path / "fewer.arrow"
    other = whole.drop_columns(["pairs.second"])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, other.schema) as writer:
        writer.write_table(other)
    with pytest.raises(InputError, match="one column pairs.second"):
        ScoreTable.load(path, WHOLE)


def test_grades_are_those_of_the_splits_qrels():
    table = dataclasses.replace(drawn(2), columns={})
    found = table.with_grades("train")
    for query, documents in said(found)[0].items():
        for document, numbers in documents.items():
            assert numbers["grades"] == QRELS["train"].get(query, {}).get(document, -1)
    assert (found.columns["grades"] >= 0).any() and (found.columns["grades"] == -1).any()
    assert (table.with_grades(None).columns["grades"] == -1).all()
    own = drawn(2)
    assert own.with_grades("test") is own, "it has grades of its own"


def test_a_weighted_sum_takes_the_place_of_the_scores():
    table = drawn(4)
    found = table.weighted({"small": 0.25, "large": -2, "scores": 1.0})
    parts = zip(table.columns["small"], table.columns["large"], table.scores, strict=True)
    np.testing.assert_allclose(
        found.scores, [0.25 * a - 2.0 * b + c for a, b, c in parts], rtol=1e-5, atol=1e-6
    )
    assert found.scores.dtype == np.float32 and found.columns is table.columns and found.pairs is table.pairs
    assert len({table.teacher, found.teacher, table.weighted({"small": 1.0}).teacher}) == 3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"medium": 1.0}, "no column medium; it has scores, small, large, grades, pairs, ranks.bm25"),
        ({"ranks.e5": 1.0}, "no column ranks.e5"),
        ({"grades": 1.0}, "teacher_weights={grades: ...}: grades is not a teacher's scores"),
        ({"ranks.bm25": 1.0}, "ranks.bm25 is not a teacher's scores"),
        ({"small": np.nan}, "teacher_weights={small: nan}: a weight must be a finite number"),
        ({"small": True}, "a weight must be a finite number"),
        ({}, "it must be weights of columns, by name"),
        ([1.0], r"weights=\[1.0\]: it must be a dict"),
    ],
)
def test_weights_that_cannot_be(weights, message):
    with pytest.raises(InputError, match=message):
        drawn(4).weighted(weights)
