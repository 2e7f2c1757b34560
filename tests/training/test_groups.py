import dataclasses
import logging
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from conftest import WordTeacher
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rankdistill.candidates import BM25, Random, mine
from rankdistill.data import Candidates, Collection
from rankdistill.errors import InputError
from rankdistill.samplers import HardNegativeSampler, RandomSampler, StratifiedSampler
from rankdistill.scores import ScoreTable
from rankdistill.teachers import score_candidates
from rankdistill.training import EpochSampler, TrainingGroups
from rankdistill.training.groups import check_fit, check_split, normalise, offered_sizes


def same(a, b):
    return a.query_row == b.query_row and np.array_equal(a.document_rows, b.document_rows)


def test_a_group_depends_on_seed_epoch_and_query_alone(table):
    """Sampling state in the dataset would make groups depend on workers and on where training resumed."""
    one, other = (
        TrainingGroups(table, RandomSampler(1, 3), seed=5),
        TrainingGroups(table, RandomSampler(1, 3), seed=5),
    )
    items = list(range(3 * len(one)))
    forwards = {i: one[i] for i in items}
    assert all(same(forwards[i], other[i]) for i in reversed(items))
    assert not all(same(forwards[i], TrainingGroups(table, RandomSampler(1, 3), seed=6)[i]) for i in items)
    assert not all(same(forwards[i], forwards[i + len(one)]) for i in range(len(one)))  # epochs differ


def test_a_deterministic_sampler_shows_the_same_group_every_epoch(table):
    groups = TrainingGroups(table, StratifiedSampler(1, 3))
    assert all(same(groups[i], groups[i + len(groups)]) for i in range(len(groups)))


def test_a_group_carries_the_scores_and_labels_of_its_documents(table):
    groups = TrainingGroups(table, HardNegativeSampler(1, 3))
    for i in range(len(groups)):
        rows, scores, positive = table.pool(i)
        where = np.searchsorted(rows, groups[i].document_rows)
        assert np.array_equal(rows[where], groups[i].document_rows)
        assert np.array_equal(scores[where], groups[i].teacher)
        assert np.array_equal(positive[where], groups[i].positive)
        assert groups[i].positive.tolist() == [True, False, False, False]


def test_ranks_go_to_samplers_that_name_them(table):
    groups = TrainingGroups(table, HardNegativeSampler(1, 2, by="retriever"))
    span = table.candidates.pool(0)
    ranks = table.candidates.best_ranks(span).astype(int)
    ranks[table.candidates.positive[span]] = 99999
    rows = table.candidates.document_rows[span]
    assert groups[0].document_rows[1:].tolist() == rows[np.argsort(ranks, kind="stable")[:2]].tolist()


def test_one_source_orders_the_pool(collection):
    """By hand: the ranks that ``flat`` gave, then what it did not find, in the order of the pool."""
    retrievers = {"words": BM25(12), "flat": BM25(4, b=0.0), "drawn": Random(6)}
    table = score_candidates(WordTeacher(), mine(collection, retrievers, "train"))
    groups = TrainingGroups(table, HardNegativeSampler(1, 6, by="flat"))
    unfound = 0
    for i in range(len(groups)):
        pool = table.candidates.pool(int(groups.queries[i]))
        offered = [place for place in range(pool.start, pool.stop) if table.candidates.negative[place]]
        ranks = table.candidates.ranks["flat"]
        offered.sort(key=lambda place: (int(ranks[place]), place))
        expected = table.candidates.document_rows[offered[:6]].tolist()
        assert groups[i].document_rows[-len(expected) :].tolist() == expected
        unfound += any(ranks[place] == 65535 for place in offered[:6])
    assert unfound, "some groups have documents that flat did not find"


@pytest.mark.parametrize("by", ["bm26", "drawn"])
def test_a_source_that_ranked_nothing_is_refused(collection, by):
    """One that is not there, and one whose documents are in no order; those that are there are named."""
    table = score_candidates(WordTeacher(), mine(collection, {"words": BM25(5), "drawn": Random(6)}, "train"))
    message = f"^sampler.by={by}: the candidates have no ranks of it; available: teacher, retriever, words$"
    with pytest.raises(InputError, match=message):
        TrainingGroups(table, HardNegativeSampler(1, 2, by=by))


class Fusing:
    """The first documents by reciprocal rank fusion of the sources."""

    def select(self, scores, positive, rng, ranks, ranks_by_source):
        self.ranks, self.ranks_by_source = ranks, ranks_by_source
        fused = sum(np.where(x < 65534, 1 / (60.0 + x), 0) for x in ranks_by_source.values())
        return np.argsort(-fused, kind="stable")[:3]


@pytest.mark.parametrize("which", ["collection", "copied"])
def test_ranks_by_source_go_to_samplers_that_name_them(request, which):
    """Under the retrievers' names, of the documents that the sampler may choose; and the best of them."""
    chosen = request.getfixturevalue(which)
    retrievers = {"words": BM25(12), "flat": BM25(9, b=0.0), "drawn": Random(6)}
    table = score_candidates(WordTeacher(), mine(chosen, retrievers, "train"))
    groups = TrainingGroups(table, sampler := Fusing())
    for i in range(len(groups)):
        group, span = groups[i], table.candidates.pool(i)
        offered = np.delete(np.arange(span.stop - span.start), table.candidates.copies.get(i, []))
        expected = {name: x[span][offered].tolist() for name, x in table.candidates.ranks.items()}
        assert {name: x.tolist() for name, x in sampler.ranks_by_source.items()} == expected
        best = [min(x) for x in zip(expected["words"], expected["flat"], strict=True)]
        assert sampler.ranks.tolist() == best
        fused = [
            sum(1 / (60 + x) for x in pair if x < 65535)
            for pair in zip(expected["words"], expected["flat"], strict=True)
        ]
        order = sorted(range(len(fused)), key=lambda place: -fused[place])[:3]
        assert group.document_rows.tolist() == table.candidates.document_rows[span][offered][order].tolist()
    sampler.ranks_by_source["words"][:] = 7
    assert (table.candidates.ranks["words"] != 7).any(), "a sampler writes into copies"


def test_copies_of_a_positive_are_found_by_text(copied):
    """Against a comparison of every candidate with every positive; q0 and q1 share theirs."""
    found = mine(copied, [BM25(12), Random(12)], "train")
    for i, query in enumerate(found.query_rows.tolist()):
        relevant = {0, 1} if query < 2 else {query}
        span = found.pool(i)
        oracle = [
            place
            for place, (row, known) in enumerate(
                zip(found.document_rows[span], found.positive[span], strict=True)
            )
            if not known
            and any(copied.documents[row].strip() == copied.documents[one].strip() for one in relevant)
        ]
        assert found.copies.get(i, np.array([])).tolist() == oracle
    assert sum(map(len, found.copies.values())) >= 14


def test_groups_of_a_collection_without_copies_do_not_ask_for_them(table):
    assert table.candidates.copies == {} and table.collection.same_documents is None


def test_a_query_with_but_a_positive_and_its_copy_is_left_out(copied):
    candidates = Candidates(
        copied,
        np.array([2, 3]),
        np.array([0, 2, 4]),
        np.array([2, 62, 3, 40], np.int32),
        np.array([True, False, True, False]),
        {},
    )
    groups = TrainingGroups(ScoreTable(candidates, np.zeros(4, np.float32)), RandomSampler(1, 1))
    assert groups.left_out == 1 and offered_sizes(groups.table).tolist() == [1, 2]
    assert groups.queries.tolist() == [1] and groups[0].document_rows.tolist() == [3, 40]


def test_a_collection_says_once_how_many_copies_it_has(copied, caplog):
    table = score_candidates(WordTeacher(), mine(copied, [BM25(12)], "train"))
    with caplog.at_level(logging.INFO, logger="rankdistill"):
        for _ in range(2):
            TrainingGroups(table, RandomSampler(1, 1))
    assert caplog.text.count("20 of 80 documents have the text of an earlier one") == 1
    assert caplog.text.count("1 of 24 queries have the text of an earlier one") == 1


@pytest.mark.parametrize(
    ("how", "expected"), [("raw", [1, 3, 5]), ("minmax", [0, 0.5, 1]), ("zscore", [-(1.5**0.5), 0, 1.5**0.5])]
)
def test_normalised_scores(how, expected):
    np.testing.assert_allclose(normalise(np.array([1, 3, 5], np.float32), how), expected, rtol=1e-6)


anything = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(-3, 3).map(lambda i: 1e8 + 8 * i),
    st.integers(0, 5).map(lambda i: i * 2**-149),  # the smallest that float32 has
    st.sampled_from([3.4e38, -3.4e38, 0.1]),
)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(scores=st.lists(anything, min_size=1, max_size=8))
@example(scores=[1e8, 1e8 + 8, 1e8 + 16])
@example(scores=[3.4e38, -3.4e38, 0.0])
@example(scores=[0.1, 0.1, 0.1])
def test_normalised_scores_are_those_of_exact_arithmetic(scores):
    """In float32, 1e38 overflows and 1e8 + {0, 8, 16} are one; no such result, whatever the scores."""
    scores = np.array(scores, np.float32)
    exact = [Fraction(float(score)) for score in scores]
    low, high, mean = min(exact), max(exact), sum(exact) / len(exact)
    variance = sum((x - mean) ** 2 for x in exact) / len(exact)
    with localcontext(prec=60):
        deviation = Fraction((Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt())
    for how, shift, spread in (("minmax", low, high - low), ("zscore", mean, deviation)):
        expected = [float((x - shift) / spread) if low < high else 0.0 for x in exact]
        found = normalise(scores, how)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=2**-23, atol=1e-14)


@pytest.mark.parametrize("how", ["minmax", "zscore"])
def test_equal_scores_become_zeros(how):
    """Their range and deviation are 0: dividing by them makes NaN."""
    assert normalise(np.full(4, 2.5, np.float32), how).tolist() == [0, 0, 0, 0]


def test_a_sampler_larger_than_every_pool_is_refused(table):
    with pytest.raises(
        InputError, match=r"group of 101 documents, .* pool has \d+; .* or sampler.positives,"
    ):
        TrainingGroups(table, RandomSampler(1, 100))


def test_an_epoch_holds_every_query_once_in_an_order_of_its_own():
    sampler = EpochSampler(10, seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == list(range(10))
    assert sorted(second) == list(range(10, 20))
    assert first != [i - 10 for i in second]


def tables_of_both(collection):
    """Scores of the queries of train and of test in one table, as one file of scores gives it."""
    candidates = Candidates(
        collection,
        np.arange(24),
        np.arange(25) * 2,
        np.array([[query, 40 + query // 2] for query in range(24)], np.int32).ravel(),
        np.tile([True, False], 24),
        {"file": np.zeros(48, np.uint16)},
    )
    return ScoreTable(candidates, np.arange(48, dtype=np.float32))


def judged(collection, **qrels):
    return dataclasses.replace(collection, qrels=qrels)


def test_queries_that_another_split_judges_are_refused(collection):
    both = tables_of_both(collection)
    message = (
        r"8 of its 24 queries are judged in test, not in train: 'q16', .*train on table.of_split\('train'\)"
    )
    with pytest.raises(InputError, match=message):
        check_split(both)
    with pytest.raises(InputError, match=r"judged in train, not in test.*or say split='train'"):
        check_split(both, "test")
    check_split(both.of_split("train"))
    check_split(both.of_split("test"), "test")
    with pytest.raises(InputError, match="no split 'dev'; available: 'test', 'train'"):
        check_split(both, "dev")


def test_without_a_train_split_the_split_is_asked_for(collection):
    other = judged(collection, test={"q1": {"d1": 1}}, dev={"q2": {"d2": 1}})
    table = tables_of_both(other)
    with pytest.raises(InputError, match="judged in test: 'q1'; .* if they are .*say split='test'"):
        check_split(table)
    check_split(table.take([1, 5]), "test")


def test_queries_that_nobody_judged_may_be_trained_on(collection, caplog):
    table = tables_of_both(judged(collection, test={"q1": {"d1": 1}}))
    with caplog.at_level(logging.INFO, logger="rankdistill"):
        check_split(table.take([0, 2, 3]))
    assert "3 of the 3 training queries are judged in no split" in caplog.text


def test_labels_of_another_split_are_refused(collection):
    """A file's table has the positives of all splits; q3, judged in both, wants d3 in train."""
    judgments = {"q3": {"d3": 1}, "q4": {"d4": 1}}
    twice = judged(collection, train=judgments, test={"q3": {"d41": 1}})
    positive = np.tile([True, False], 24)
    positive[3 * 2 + 1] = True
    whole = tables_of_both(twice).take([3, 4])
    relabelled = dataclasses.replace(whole.candidates, positive=positive[6:10])
    with pytest.raises(InputError, match="'q3' of train has positives that only the qrels of test name"):
        check_split(ScoreTable(relabelled, whole.scores))
    check_split(ScoreTable(relabelled, whole.scores).of_split("train"))


@pytest.mark.parametrize("leak", ["id", "text", "case"])
def test_training_queries_that_are_measured_are_counted(collection, leak, caplog):
    """By id, where both splits judge them, and by text under another id; no other query."""
    if leak == "id":
        test = collection.qrels["test"] | {"q3": {"d3": 1}, "q5": {"d5": 0}}
        leaking = judged(collection, train=collection.qrels["train"], test=test)
    else:
        queries = list(collection.queries)
        queries[20], queries[21] = f" {queries[3]}", queries[5]
        if leak == "case":
            queries[20], queries[21] = queries[3].upper(), queries[5].replace(" ", "  ")
        leaking = dataclasses.replace(collection, queries=queries)
    check_split(tables_of_both(leaking).take(range(16)))
    assert "2 of the 16 training queries are queries of test too, by id or by text" in caplog.text


@pytest.mark.parametrize("positives", [0, 1, 2])
@pytest.mark.parametrize("margin", [0.5, 1.5, 3.0, 100.0])
def test_groups_that_a_margin_leaves_one_document_are_counted(table, margin, positives, caplog):
    """The card said "trained on 60 of 60"; against the groups themselves."""
    groups = TrainingGroups(table, RandomSampler(positives, 3, absolute_margin=margin))
    sizes = [len(groups[i].document_rows) for i in range(len(groups))]
    assert groups.alone == sum(size == 1 for size in sizes) and (
        margin < 100 or not positives or groups.alone
    )
    with caplog.at_level(logging.INFO, logger="rankdistill"):
        groups.say_what_is_few()
    said = f"{groups.alone} of {len(groups)} groups have only one document: the sampler's margin leaves"
    assert (said in caplog.text) == (groups.alone > 0)
    assert TrainingGroups(table, RandomSampler(positives, 3)).alone == 0


def test_a_table_of_a_split_alone_is_trained_on_in_silence(table, caplog):
    with caplog.at_level(logging.INFO, logger="rankdistill"):
        check_split(table)
        check_split(table, "train")
    assert not caplog.records


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ([0, 1, 1], r"\[0, 1, 1\]"),
        ([-1, 0], r"\[-1, 0\]"),
        ([0, 99], r"\[0, 99\]"),
        ([0.0, 1.0], r"float64 \(2,\)"),
        ([True, False], r"bool \(2,\)"),
        ([], r"float64 \(0,\)"),
        ([[0, 1]], r"int64 \(1, 2\)"),
    ],
)
def test_what_a_sampler_of_ones_own_may_not_choose_is_said(table, chosen, found):
    """A negative index takes another document, a mask the wrong ones: both in silence."""

    class Own:
        def select(self, scores, positive, rng):
            return np.array(chosen)

    with pytest.raises(InputError, match=rf"sampler: Own.select gave {found} for a pool of \d+; it must"):
        TrainingGroups(table, Own())[0]


class Writing:
    """Normalises what it is given in place, as NumPy code often does, and takes all of it."""

    def select(self, scores, positive, rng, ranks):
        scores -= scores.mean()
        ranks[:] = 0
        positive[:] = True
        return np.arange(len(scores))


def test_a_sampler_may_write_into_what_it_is_given(table):
    """In memory it would change the teacher's scores for good, and make every document a positive."""
    scores = np.array(table.scores)
    kept = ScoreTable(table.candidates, scores.copy(), table.teacher)
    group = TrainingGroups(kept, Writing())[0]
    span = table.candidates.pool(0)
    assert np.array_equal(kept.scores, scores)
    assert np.array_equal(group.teacher, scores[span])
    assert group.positive.tolist() == table.candidates.positive[span].tolist()


def test_a_table_without_queries_is_said(table):
    empty = table.take([])
    assert len(empty) == 0 and "0 queries" in repr(empty)
    with pytest.raises(InputError, match="no query in it to train on"):
        TrainingGroups(empty, RandomSampler(1, 1))
    alone = table.take([0, 1], [np.array([0]), np.array([0])])
    for sampler in (RandomSampler(0, 1), RandomSampler(1, 3), HardNegativeSampler(1, 3)):
        with pytest.raises(
            InputError, match="^score table: no query has two documents to show; mine or score"
        ):
            TrainingGroups(alone, sampler)


def test_a_collection_of_one_document_is_said():
    """It was the sampler that was to have smaller groups."""
    one = Collection("one", ["a"], ["text"], ["q"], ["what"], {"train": {"q": {"a": 1}}})
    pools = mine(one, [Random(5)], "train")
    with pytest.raises(InputError, match="^one: it has one document, and training compares two; add more"):
        check_fit(RandomSampler(1, 3), pools)
