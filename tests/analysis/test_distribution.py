import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

from rankdistill import analysis
from rankdistill.analysis.distribution import STATISTICS, query_statistics
from rankdistill.analysis.per_query import shown_table
from rankdistill.samplers import HardNegativeSampler, RandomSampler

RNG = np.random.default_rng(0)


def by_definition(scores, near=0.01):
    """Every statistic of one query, a pair at a time."""
    x = np.asarray(scores, dtype=float)
    p = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
    pairs = [expit(x[i] - x[j]) for i in range(len(x)) for j in range(i + 1, len(x))]
    gaps = np.diff(np.sort(x))
    return {
        "variance": np.var(x),
        "std": np.std(x),
        "range": x.max() - x.min(),
        "entropy": stats.entropy(p),
        "entropy_share": stats.entropy(p, base=len(x)),
        "pairwise_entropy": np.mean([stats.entropy([q, 1 - q], base=2) for q in pairs]),
        "top_gap": np.sort(x)[-1] - np.sort(x)[-2],
        "near_ties": np.mean([gap <= near * np.ptp(x) for gap in gaps]),
    }


def test_every_statistic_of_every_query_is_as_defined(table_of):
    """Pools of several sizes, computed together by size, come back in the table's order."""
    pools = [RNG.normal(0, 3, size=n).astype(np.float32) for n in (5, 2, 9, 1, 5, 2, 30)]
    found = query_statistics(table_of(pools), near=0.05)
    assert found.index.tolist() == ["q0", "q1", "q2", "q4", "q5", "q6"]
    assert found["documents"].tolist() == [5, 2, 9, 5, 2, 30]
    for query, pool in zip(found.index, [p for p in pools if len(p) > 1], strict=True):
        expected = by_definition(pool, near=0.05)
        assert found.loc[query, list(STATISTICS)].to_dict() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_spread_and_entropy_of_a_known_group(table_of):
    """Scores 3, 1, -1: softmax .8668, .1173, .0159, entropy .441057 nats; gaps 2, 4, 2 .394703 bits."""
    found = query_statistics(table_of([[3, 1, -1]])).loc["q0"]
    assert found["entropy"] == pytest.approx(0.441057, abs=1e-6)
    assert found["entropy_share"] == pytest.approx(0.441057 / np.log(3), abs=1e-6)
    assert found["pairwise_entropy"] == pytest.approx(0.394703, abs=1e-6)
    assert (found["range"], found["top_gap"], found["near_ties"]) == (4, 2, 0)
    assert found["variance"] == pytest.approx(8 / 3)


def test_equal_scores_have_the_highest_entropy_and_saturated_ones_none(table_of):
    found = query_statistics(table_of([[0, 0, 0, 0], [1000, 0], [0, -1000]]))
    assert found["entropy_share"].tolist() == pytest.approx([1, 0, 0])
    assert found["pairwise_entropy"].tolist() == pytest.approx([1, 0, 0])
    assert found["near_ties"].tolist() == [1, 0, 0]


def test_a_shift_of_the_scores_changes_nothing(table_of):
    pool = np.array([4.0, 2.5, 2.0, -1.0])
    pd.testing.assert_frame_equal(
        query_statistics(table_of([pool])), query_statistics(table_of([pool + 100])), rtol=1e-5
    )


def test_means_are_those_of_the_queries(table):
    sampler = RandomSampler(1, 3)
    found = analysis.pool_distribution(table), analysis.shown_distribution(table, sampler, seed=2)
    tables = table, shown_table(table, sampler, seed=2)
    for means, one in zip(found, tables, strict=True):
        spreads = [one.pool(i)[1].std() for i in range(len(one))]
        assert means.std == pytest.approx(np.mean(spreads))
        assert means.entropy == pytest.approx(query_statistics(one)["entropy"].mean())


def test_histograms_share_their_intervals(table):
    tables = {"pool": table, "hard": shown_table(table, HardNegativeSampler(1, 3))}
    found = analysis.score_histogram(tables, bins=10)
    edges = np.append(found.index.left, found.index[-1].right)
    assert len(found) == 10 and np.diff(edges) == pytest.approx(edges[1] - edges[0])
    for name, one in tables.items():
        inside = one.scores[(one.scores >= edges[0]) & (one.scores <= edges[-1])]
        assert found[name].to_numpy() == pytest.approx(np.histogram(inside, edges, density=True)[0])


@pytest.mark.parametrize(
    "pool", [[3.4e38, -3.4e38, 0.0], [1e8, 1e8 + 8, 1e8 + 16], [2.0**-149, 0.0], [0.1] * 7, [3e38] * 3]
)
def test_scores_of_any_size_have_statistics_and_a_histogram(table_of, pool):
    with np.errstate(all="raise", under="ignore"):
        table = table_of([pool])
        found = query_statistics(table).loc["q0"]
        density = analysis.score_histogram({"pool": table}, bins=7)["pool"]
    exact = by_definition(np.array(pool, np.float32).astype(float))
    for name in ("variance", "range", "entropy", "near_ties"):
        assert found[name] == pytest.approx(exact[name], rel=1e-9, abs=1e-30), name
    assert sum(density * density.index.length) == pytest.approx(1)
