import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax
from sentence_transformers import SentenceTransformer

from rankdistill import analysis
from rankdistill.analysis.agreement import (
    agreement,
    false_negatives,
    kendall_tau,
    label_auc,
    student_scores,
)
from rankdistill.analysis.per_query import shown_table
from rankdistill.commands.train import tell_agreement
from rankdistill.data import Candidates
from rankdistill.errors import InputError
from rankdistill.retrieval import DenseIndex, embed_documents, embed_queries
from rankdistill.samplers import HardNegativeSampler, RandomSampler
from rankdistill.scores import ScoreTable

RNG = np.random.default_rng(0)


def test_tau_is_scipys_with_and_without_ties():
    for high in (3, 1000):
        a, b = RNG.integers(0, high, size=(2, 50, 7)).astype(float)
        expected = [stats.kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)]
        assert kendall_tau(a, b) == pytest.approx(np.array(expected), nan_ok=True)
    assert np.isnan(kendall_tau(np.ones((1, 4)), np.arange(4.0)[None]))


def test_label_auc_is_the_share_of_pairs_in_order(table_of):
    """Against every pair, equal scores half."""
    pools = [np.round(RNG.normal(size=n), 1) for n in (4, 9, 9, 25)]
    table = table_of(pools, [[2], [0, 5], [1], [3, 4, 20]])
    found = label_auc(table)
    for i, auc in enumerate(found):
        _, scores, positive = table.pool(i)
        margins = np.subtract.outer(scores[positive], scores[~positive])
        assert auc == pytest.approx(((margins > 0) + 0.5 * (margins == 0)).mean())


def test_a_teacher_that_contradicts_the_labels_is_warned_of(table_of, caplog):
    pools = [[3.0, 2.0, 1.0, 0.0]] * 4
    with caplog.at_level("INFO"):
        tell_agreement(table_of(pools, [[0], [0], [1], [0, 2]]), "training")  # 1, 1, 2/3, 3/4
        assert "relevant documents above others in 85 % of pairs" in caplog.text and len(caplog.records) == 1
        tell_agreement(table_of(pools, [[3], [3], [1], [0, 2]]), "warmup.training")  # 0, 0, 2/3, 3/4
    assert caplog.messages[-2].endswith("35 % of pairs") and caplog.messages[-2].startswith(
        "warmup.training:"
    )
    assert caplog.records[-1].levelname == "WARNING" and "loss=kl_infonce" in caplog.messages[-1]


def test_every_query_agrees_as_defined(table_of):
    """Pools of several sizes and one to three positives, against scipy and every pair of margins."""
    pools = [RNG.normal(0, 4, size=n) for n in (4, 9, 4, 25)]
    positives = [[2], [0, 5], [1], [3, 4, 20]]
    table = table_of(pools, positives)
    student = RNG.normal(size=len(table.scores)).astype(np.float32)
    found = agreement(table, student, teacher_temperature=2.0, student_temperature=0.5)
    assert found.index.tolist() == ["q0", "q1", "q2", "q3"]
    for i, query in enumerate(found.index):
        t, s = table.pool(i)[1].astype(float), student[table.candidates.pool(i)].astype(float)
        positive = table.pool(i)[2]
        margins = [np.subtract.outer(x[positive], x[~positive]).ravel() for x in (t, s)]
        row = found.loc[query]
        assert row["kendall_tau"] == pytest.approx(stats.kendalltau(t, s).statistic)
        assert row["kl"] == pytest.approx(stats.entropy(softmax(t / 2), softmax(s / 0.5)))
        assert row["top1"] == float(t.argmax() == s.argmax())
        assert row["margin_correlation"] == pytest.approx(np.corrcoef(*margins)[0, 1])


def test_a_student_that_says_the_same_agrees_wholly(table):
    found = agreement(table, 3 * table.scores + 1, student_temperature=3)
    assert found["kendall_tau"].to_numpy() == pytest.approx(1)
    assert found["kl"].to_numpy() == pytest.approx(0, abs=1e-6)
    assert found["top1"].tolist() == [1] * len(table)
    assert agreement(table, -table.scores)["kendall_tau"].to_numpy() == pytest.approx(-1)


def test_the_first_of_the_teachers_equals_counts(table_of):
    table = table_of([[5, 5, 1], [5, 5, 1]])
    assert agreement(table, np.array([0, 1, 0, 0, 0, 1.0]))["top1"].tolist() == [1, 0]


def test_what_is_undefined_is_nan(table_of):
    """Equal scores, no positive, no negative: rounding must not make a correlation of them."""
    table = table_of([[0.1, 0.3, 0.7], [1, 2, 3], [0.1, 0.1, 0.1]], [[0], [], [0]])
    found = agreement(table, np.array([0.7, 0.1, 0.1, 3, 2, 1, 1, 2, 3]))
    assert np.isnan(found["margin_correlation"]).tolist() == [True, True, True]
    assert np.isnan(found["kendall_tau"]).tolist() == [False, False, True]
    assert found["kl"].notna().all()


def test_scores_far_apart_have_a_finite_divergence(table_of):
    found = agreement(table_of([[1000.0, 0.0]]), np.array([0.0, 500.0]))
    assert found["kl"].tolist() == pytest.approx([500.0])


def test_student_scores_that_do_not_fit_are_an_error(table):
    scores = np.zeros(len(table.scores))
    with pytest.raises(InputError, match=r"\(3,\) student scores for \d+ pairs"):
        agreement(table, scores[:3])
    with pytest.raises(InputError, match="1 student scores are not finite"):
        agreement(table, np.where(np.arange(len(scores)) == 2, np.nan, scores))
    with pytest.raises(InputError, match="temperatures 0, 1.0: they must be finite and above 0"):
        agreement(table, scores, teacher_temperature=0)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_the_students_scores_are_its_similarities(table, student_folder, monkeypatch, similarity):
    model = SentenceTransformer(student_folder, device="cpu", similarity_fn_name=similarity)
    embedded = []

    def counting(model, texts):
        embedded.extend(texts)
        return embed_documents(model, texts)

    monkeypatch.setattr("rankdistill.retrieval.index.embed_documents", counting)
    monkeypatch.setattr("rankdistill.retrieval.dense.BLOCK", 17)
    found = student_scores(model, table)
    pairs = list(table.candidates.pairs(0, len(table.scores)))
    queries, documents = zip(*pairs, strict=True)
    a, b = embed_queries(model, queries), embed_documents(model, documents)
    assert found == pytest.approx((a * b).sum(axis=1), abs=1e-4) and found.dtype == np.float32
    assert sorted(embedded) == sorted(set(documents)), "every text once"
    whole = DenseIndex(model, embed_documents(model, table.collection.documents))
    assert student_scores(model, table, whole) == pytest.approx(found, abs=1e-4)
    assert sorted(embedded) == sorted(set(documents)), "none where they are given"


def test_negatives_above_the_best_positive_are_counted(table_of):
    table = table_of([[1, 2, 3, 0], [5, 6, 4, 7], [3, 3, 3], [1, 2], [1, 2]], [[0], [0, 1], [1], [], [0, 1]])
    shares = false_negatives(table)
    assert shares.tolist() == pytest.approx([2 / 3, 1 / 2, 0, np.nan, np.nan], nan_ok=True)
    assert shares.index.tolist() == ["q0", "q1", "q2", "q3", "q4"]


def test_a_sampler_can_show_more_of_them_than_there_are_in_the_pool(table_of):
    table = table_of([[5, 9, 8, 1, 2, 3, 4]], [[0]])
    assert false_negatives(table).tolist() == pytest.approx([2 / 6])
    assert false_negatives(shown_table(table, HardNegativeSampler(1, 2))).tolist() == [1]
    spared = shown_table(table, HardNegativeSampler(1, 2, absolute_margin=0.5))
    assert analysis.false_negatives(spared).tolist() == [0]


def test_copies_of_a_positive_are_no_negatives(copied):
    """c2 has the text of d2, q2's positive, and the highest score: neither a false negative nor a margin."""
    candidates = Candidates(
        copied,
        np.array([2]),
        np.array([0, 5]),
        np.array([2, 30, 31, 32, 62], np.int32),
        np.array([True, False, False, False, False]),
        {},
    )
    table = ScoreTable(candidates, np.array([1, 0, 2, 0.5, 3], np.float32))
    assert analysis.false_negatives(table).tolist() == [pytest.approx(1 / 3)]
    student = np.array([1.0, 0.0, 2.5, 0.5, -9.0])
    found = analysis.agreement(table, student)["margin_correlation"].iloc[0]
    assert found == pytest.approx(np.corrcoef([1, -1, 0.5], [1, -1.5, 0.5])[0, 1])
    pools = analysis.kept_shares(table, {"all": RandomSampler(1, 4)}, ("range",))
    assert pools.loc[("range", "all"), "pool"] == 2 and pools.loc[("range", "all"), "kept"] == 1
