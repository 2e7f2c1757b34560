import dataclasses
import logging

import numpy as np
import pytest
from omegaconf import OmegaConf
from sentence_transformers import SentenceTransformer

from rankdistill.candidates import BM25, Dense, Random, mine
from rankdistill.candidates.mining import union
from rankdistill.commands.launch import make_retrievers
from rankdistill.data import Collection
from rankdistill.errors import InputError
from rankdistill.retrieval import embed_documents, embed_queries

NONE, DRAWN = 65535, 65534


class Counting:
    """Finds documents 1 and 0 for every query; notes each call."""

    source = "dense"
    fingerprint = "two"

    def __init__(self, calls=None):
        self.calls = [] if calls is None else calls

    def retrieve(self, collection, query_rows):
        self.calls.append(query_rows)
        return np.tile([1, 0], (len(query_rows), 1))


def test_the_union_by_hand(collection):
    """Pools of two queries: each source's ranks by its name, the best of them, -1 dropped."""
    found = union(
        collection,
        np.array([4, 7]),
        [
            ("bm25", np.array([[9, 3, 5], [2, -1, -1]])),
            ("dense", np.array([[3, 9], [8, 7]])),
            ("random", np.array([[5, 6], [2, 0]])),
        ],
        {4: [1, 9], 7: [7, 50]},
        {"random"},
    )
    pools = [found.document_rows[found.pool(i)].tolist() for i in range(2)]
    assert pools == [[1, 3, 5, 6, 9], [0, 2, 7, 8, 50]]
    ranks = [{name: x[found.pool(i)].tolist() for name, x in found.ranks.items()} for i in range(2)]
    assert ranks[0] == {
        "bm25": [NONE, 1, 2, NONE, 0],
        "dense": [NONE, 0, NONE, NONE, 1],
        "random": [NONE, NONE, DRAWN, DRAWN, NONE],
    }
    assert ranks[1] == {
        "bm25": [NONE, 0, NONE, NONE, NONE],
        "dense": [NONE, NONE, 1, 0, NONE],
        "random": [DRAWN, DRAWN, NONE, NONE, NONE],
    }
    assert found.best_ranks(found.pool(0)).tolist() == [NONE, 0, 2, NONE, 0]
    assert found.best_ranks(found.pool(1)).tolist() == [NONE, 0, 1, 0, NONE]
    assert found.best_ranks().tolist() == [NONE, 0, 2, NONE, 0, NONE, 0, 1, 0, NONE]
    assert found.positive[found.pool(0)].tolist() == [True, False, False, False, True]
    assert found.positive[found.pool(1)].tolist() == [False, False, True, False, True]
    assert [found.query_rows.tolist(), found.offsets.tolist()] == [[4, 7], [0, 5, 10]]
    kinds = [found.document_rows.dtype, found.positive.dtype, found.best_ranks().dtype, found.offsets.dtype]
    assert kinds == [np.int32, bool, np.uint16, np.int64]


def test_pairs_are_the_texts_of_the_pools(collection):
    found = union(collection, np.array([4, 7]), [("bm25", np.array([[9, 3], [2, -1]]))], {})
    assert list(found.pairs(1, 3)) == [
        (collection.queries[4], collection.documents[9]),
        (collection.queries[7], collection.documents[2]),
    ]


def test_positives_are_always_there(collection):
    found = mine(collection, [Counting()], "test")
    assert found.query_rows.tolist() == list(range(16, 24))
    for i, row in enumerate(found.query_rows):
        assert found.document_rows[found.pool(i)].tolist() == [0, 1, row]
        assert found.positive[found.pool(i)].tolist() == [False, False, True]


def test_without_retrievers_there_are_the_positives(collection):
    assert mine(collection, []).document_rows.tolist() == list(range(16))


TOY = Collection(
    "toy",
    ["cats", "dogs", "both", "code", "none"],
    [
        "Cats sleep",
        "dogs run fast",
        "a cat runs from dogs",
        "def parse_header(line): return line",
        "the of and",
    ],
    ["cat", "run", "header", "nothing", "stop"],
    ["sleeping cat", "who runs", "parse the header", "zebra", "and of the"],
    {"train": {query: {"none": 1} for query in ("cat", "run", "header", "nothing", "stop")}},
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("cat", {"cats", "both"}),
        ("run", {"dogs", "both"}),
        ("header", {"code"}),
        ("nothing", set()),
        ("stop", set()),
    ],
)
def test_bm25_finds_documents_with_words_of_the_query_and_no_others(query, expected):
    """Stemmed, without stop words, identifiers split; a document of score 0 is no candidate."""
    rows = BM25(4).retrieve(TOY, np.array([TOY.query_row[query]]))[0]
    assert {TOY.document_ids[row] for row in rows if row >= 0} == expected
    assert rows[: len(expected)].min(initial=0) >= 0, "-1 is at the end"


def test_bm25_puts_the_best_first_and_takes_n(collection):
    """A query of the tiny collection is the first four words of its document."""
    rows = BM25(7).retrieve(collection, np.arange(24))
    assert rows.shape == (24, 7) and rows.dtype == np.int64
    assert (rows[:, 0] == np.arange(24)).mean() > 0.8
    assert (rows[:, 0:1] == BM25(1).retrieve(collection, np.arange(24))).all()


def test_bm25_is_no_longer_than_the_collection():
    assert BM25(100).retrieve(TOY, np.array([0])).shape == (1, 5)


def test_bm25_of_documents_with_no_words_finds_nothing():
    bare = Collection("bare", ["a", "b"], ["the", "?!"], ["q"], ["what is it"], {})
    assert (BM25(2).retrieve(bare, np.array([0])) == -1).all()


def test_random_documents_are_distinct():
    rows = Random(5).retrieve(TOY, np.arange(5))
    assert np.array_equal(np.sort(rows), np.tile(np.arange(5), (5, 1)))


@pytest.mark.parametrize(("n", "width"), [(3, 3), (60, 60), (1000, 60)])
def test_random_takes_n_or_all(collection, n, width):
    rows = Random(n).retrieve(collection, np.arange(24))
    assert rows.shape == (24, width)
    assert all(len(set(row)) == width for row in rows.tolist())


def test_random_documents_of_a_query_depend_on_seed_and_query_alone(collection):
    """Else a limit on queries, or their order, would change every pool and miss every cache."""
    everyone, few = (
        Random(8).retrieve(collection, np.arange(24)),
        Random(8).retrieve(collection, np.array([20, 3])),
    )
    assert np.array_equal(everyone[[20, 3]], few)
    assert not np.array_equal(everyone[3], everyone[4])
    assert not np.array_equal(everyone, Random(8, seed=1).retrieve(collection, np.arange(24)))


def test_dense_equals_brute_force(collection, student_folder):
    model = SentenceTransformer(student_folder, device="cpu")
    similarity = embed_queries(model, collection.queries) @ embed_documents(model, collection.documents).T
    rows = Dense(model, 9).retrieve(collection, np.arange(24))
    assert rows.shape == (24, 9) and all(len(set(row)) == 9 for row in rows.tolist())
    best = -np.sort(-similarity, axis=1)[:, :9]
    assert np.allclose(np.take_along_axis(similarity, rows, 1), best, atol=1e-6)


def test_mining_twice_computes_once(collection, caplog):
    caplog.set_level(logging.INFO)
    calls = []
    first, second = mine(collection, [Counting(calls)]), mine(collection, [Counting(calls)])
    assert len(calls) == 1
    assert first.fingerprint == second.fingerprint
    assert "reusing candidates" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"retrievers": [BM25(6), Random(4)]},
        {"retrievers": [BM25(5, k1=1.5), Random(4)]},
        {"retrievers": [BM25(5)]},
        {"retrievers": [BM25(5), Random(4, seed=1)]},
        {"split": "test"},
        {"limit": 5},
    ],
)
def test_other_settings_are_mined_again(collection, change, tmp_path, monkeypatch):
    """A cache key that forgets a field serves the pools of another run."""
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))
    usual = {"retrievers": [BM25(5), Random(4)], "split": "train", "limit": None}
    mine(collection, **usual)
    mine(collection, **{**usual, **change})
    assert len(list((tmp_path / "candidates").glob("*.arrow"))) == 2


def test_a_limit_draws_queries_by_seed(collection):
    assert (
        mine(collection, [], limit=4, seed=2).query_rows.tolist()
        == collection.query_rows("train", 4, 2).tolist()
    )


def test_what_was_mined_shows_its_sources(collection):
    """Documents 0 and 1 are the positives of two of the sixteen queries."""
    shown = repr(mine(collection, [Counting()]))
    assert shown == "Candidates(16 queries, 2-3 documents each; dense 32, positive 16)"


def test_a_damaged_cache_is_named(collection, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))
    mine(collection, [BM25(5)])
    (file,) = (tmp_path / "candidates").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=f"{file.name}: damaged .*delete it"):
        mine(collection, [BM25(5)])


def test_a_retriever_that_fails_leaves_nothing_to_reuse(collection, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))

    class Failing(Counting):
        def retrieve(self, collection, query_rows):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mine(collection, [Failing()])
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".lock"]


@pytest.mark.parametrize(
    ("split", "message"),
    [("dev", "no split 'dev'; available: 'test', 'train'"), ("judged", "no query of split 'judged'")],
)
def test_a_split_with_nothing_to_mine_raises(collection, split, message):
    qrels = {**collection.qrels, "judged": {"q0": {"d3": 0}}} if split == "judged" else collection.qrels
    with pytest.raises(InputError, match=message):
        mine(dataclasses.replace(collection, qrels=qrels), [BM25(5)], split)


def test_a_query_that_is_a_document_is_no_candidate_of_itself(tmp_path, monkeypatch):
    """Not even of a retriever that gives it; the ranks close up. Kept where the collection says so."""
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))

    class Fixed(Counting):
        def retrieve(self, collection, query_rows):
            return np.array([[0, 2, 1]])

    texts = ["w1 w2 w3", "w1 w2 w4", "w50"]
    qrels = {"train": {"1": {"2": 1}}}
    own = Collection("own", ["1", "2", "3"], texts, ["1"], ["w1 w2 w3"], qrels)
    found = mine(own, [Fixed()])
    assert found.document_rows.tolist() == [1, 2] and found.ranks["dense"].tolist() == [1, 0]
    kept = mine(dataclasses.replace(own, ignore_identical_ids=False), [Fixed()])
    assert kept.document_rows.tolist() == [0, 1, 2] and kept.ranks["dense"].tolist() == [0, 2, 1]
    relevant = dataclasses.replace(own, qrels={"train": {"1": {"1": 1, "2": 1}}})
    assert mine(relevant, [Fixed()]).document_rows.tolist() == [0, 1, 2]


class Ones:
    """A retriever of one's own: documents 1 and 0, or what it is told."""

    source = "bm25"
    fingerprint = "ones"

    def __init__(self, rows=(1, 0), **others):
        self.rows = rows
        vars(self).update(others)

    def retrieve(self, collection, query_rows):
        return np.array([self.rows] * len(query_rows))


@dataclasses.dataclass
class Held:
    """Its field has no fingerprint but its address in memory."""

    held: object
    source = "bm25"
    retrieve = Ones.retrieve


class Lists:
    """Found documents as they come: lists of different lengths."""

    source, fingerprint = "bm25", "lists"

    def retrieve(self, collection, query_rows):
        return [list(range(i)) for i in range(len(query_rows))]


class Unsigned(Lists):
    fingerprint = "unsigned"

    def retrieve(self, collection, query_rows):
        return np.tile(np.array([3, 1], np.uint64), (len(query_rows), 1))


def test_rows_may_be_unsigned(collection):
    found = mine(collection, [Unsigned()], "test")
    assert found.document_rows[found.pool(0)].tolist() == [1, 3, 16]


@pytest.mark.parametrize(
    ("retriever", "message"),
    [
        (Ones(source="positive"), "^retriever Ones: it must not be called positive, which says where other"),
        (Ones(source="file"), "it must not be called file"),
        (
            Ones(source=None),
            "it is called None; a name must be of letters, digits, _ and -: give",
        ),
        (Ones(source="a.b"), "it is called 'a.b'; a name must be"),
        (Ones(fingerprint=None), "^retriever Ones needs a fingerprint, a text that changes whenever"),
        (Ones(fingerprint=7), "needs a fingerprint"),
        (Held(object()), "^retriever Held needs a fingerprint"),
        (
            Ones([1, 60]),
            "^retriever Ones: retrieve gives rows from 1 to 60 for 60 documents; it must give integers",
        ),
        (Ones([-2, 1]), "gives rows from -2 to 1 for 60 documents"),
        (Lists(), r"gives object of shape \(\) for 16 queries; it must give integers"),
        (Ones([0.5]), r"gives float64 of shape \(16, 1\) for 16 queries"),
        (Ones(3), r"gives int64 of shape \(16,\) for 16 queries"),
    ],
)
def test_what_is_wrong_with_a_retriever_of_ones_own_is_said(
    collection, tmp_path, monkeypatch, retriever, message
):
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=message):
        mine(collection, [retriever])
    assert not list(tmp_path.rglob("*.arrow"))


def test_retrievers_of_one_class_have_ranks_of_their_own(collection):
    """Against each alone: by name, however many there are."""
    retrievers = {f"bm25_{n}": BM25(n, b=n / 20) for n in range(3, 13)} | {
        "drawn": Random(3),
        "other": Random(2, 1),
    }
    found = mine(collection, retrievers)
    assert list(found.ranks) == list(retrievers)
    for name, retriever in retrievers.items():
        rows = retriever.retrieve(collection, found.query_rows)
        for i, ranked in enumerate(rows.tolist()):
            span = found.pool(i)
            ranks = dict(
                zip(found.document_rows[span].tolist(), found.ranks[name][span].tolist(), strict=True)
            )
            expected = {row: rank for rank, row in enumerate(ranked) if row >= 0}
            if isinstance(retriever, Random):
                expected = dict.fromkeys(ranked, DRAWN)
            assert {row: rank for row, rank in ranks.items() if rank != NONE} == expected


def test_the_order_of_retrievers_does_not_matter(collection):
    one, other = BM25(3), BM25(5, k1=2)
    assert (
        mine(collection, {"a": one, "b": other}).fingerprint
        == mine(collection, {"b": other, "a": one}).fingerprint
        != mine(collection, {"a": other, "b": one}).fingerprint
    )


@pytest.mark.parametrize(
    ("retrievers", "message"),
    [
        (
            [BM25(3), BM25(4)],
            "^retriever BM25: bm25 is there twice; give each a name of its own, as",
        ),
        ({"file": BM25(3)}, "^retriever BM25: it must not be called file, which says where other candidates"),
        ({"positive": BM25(3)}, "it must not be called positive"),
        ({"": BM25(3)}, "it is called ''; a name must be of letters"),
        (BM25(3), "retrievers=BM25.*: it must be a dict or a list"),
        ("bm25", "retrievers='bm25': it must be a dict or a list"),
    ],
)
def test_names_of_retrievers_that_cannot_be(collection, retrievers, message):
    with pytest.raises(InputError, match=message):
        mine(collection, retrievers)


def test_a_bad_index_is_named_by_the_retrievers_field(beir, tmp_path, student_folder):
    encoder = {"_target_": "rankdistill.students.load_student", "model": str(student_folder)}
    dense = {"_target_": "rankdistill.candidates.Dense", "model": encoder, "index": "Flattt"}
    with pytest.raises(InputError, match="^candidates.retrievers.e5.index='Flattt': FAISS refuses it"):
        make_retrievers(OmegaConf.create({"candidates": {"retrievers": {"e5": dense}}}).candidates.retrievers)


def test_retrievers_alike_in_their_fields_are_not_alike(collection):
    """A class of one's own with BM25's source and fields has candidates of its own."""

    @dataclasses.dataclass(frozen=True)
    class Mine(BM25):
        def retrieve(self, collection, query_rows):
            return np.zeros((len(query_rows), 1), int)

    keys = {mine(collection, [retriever]).fingerprint for retriever in (BM25(3), Mine(3), BM25(4))}
    assert len(keys) == 3


def test_bm25_takes_equal_documents_by_their_ids():
    """bm25s takes any of them: here the first and the last ones."""
    ids = [f"d{i:02d}" for i in np.random.default_rng(0).permutation(40)]
    texts = ["cat dog"] * 30 + ["cat cat dog"] * 2 + ["bird"] * 8
    many = Collection("many", ids, texts, ["q", "r"], ["cat", "bird"], {"train": {"q": {ids[0]: 1}}})
    rows = BM25(5).retrieve(many, np.array([0, 1]))
    equal = sorted(range(30), key=ids.__getitem__)
    assert rows[0].tolist() == [*sorted([30, 31], key=ids.__getitem__), *equal[:3]]
    assert rows[1].tolist() == sorted(range(32, 40), key=ids.__getitem__)[:5]
    assert (BM25(9).retrieve(many, np.array([1]))[0, 8:] == -1).all(), "the others have no word of it"
