import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

from rankdistill import analysis
from rankdistill.analysis.distribution import STATISTICS, query_statistics
from rankdistill.analysis.per_query import shown_table
from rankdistill.errors import InputError
from rankdistill.samplers import HardNegativeSampler, RandomSampler, StratifiedSampler

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


def test_blocks_change_nothing(table, monkeypatch):
    whole = query_statistics(table)
    monkeypatch.setattr("rankdistill.analysis.per_query.BLOCK", 30)
    pd.testing.assert_frame_equal(query_statistics(table), whole)


def test_pools_of_one_document_have_no_distribution(table_of):
    with pytest.raises(InputError, match="score table: no query has two or more documents"):
        query_statistics(table_of([[1], [2]]))


def test_shown_scores_are_those_of_the_groups(table):
    shown = shown_table(table, HardNegativeSampler(1, 3))
    assert shown.candidates.query_rows.tolist() == table.candidates.query_rows.tolist()
    for i in range(len(table)):
        rows, scores, labels = shown.pool(i)
        _, pool, positive = table.pool(i)
        assert sorted(scores) == sorted([*pool[positive], *np.sort(pool[~positive])[::-1][:3]])
        assert (np.diff(rows) > 0).all() and labels.sum() == 1
        of_pool = dict(zip(*table.pool(i)[:2], strict=True))
        assert scores.tolist() == [of_pool[row] for row in rows]


def test_epochs_and_seeds_draw_other_groups(table):
    first, *others = (
        shown_table(table, RandomSampler(1, 3), seed, epoch).candidates.document_rows.tolist()
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))
    )
    assert others[-1] == first and first not in others[:2]


def test_means_are_those_of_the_queries(table):
    sampler = RandomSampler(1, 3)
    found = analysis.pool_distribution(table), analysis.shown_distribution(table, sampler, seed=2)
    tables = table, shown_table(table, sampler, seed=2)
    for means, one in zip(found, tables, strict=True):
        spreads = [one.pool(i)[1].std() for i in range(len(one))]
        assert means.std == pytest.approx(np.mean(spreads))
        assert means.entropy == pytest.approx(query_statistics(one)["entropy"].mean())


def test_samplers_are_compared_query_by_query(table):
    """Each row against the pools and groups themselves, the interval against scipy's."""
    samplers = {"hard": HardNegativeSampler(1, 3), "random": RandomSampler(1, 3)}
    found = analysis.compare_samplers(table, samplers, seed=4)
    tables = {name: shown_table(table, sampler, 4) for name, sampler in samplers.items()}
    spread = {name: [one.pool(i)[1].std() for i in range(len(one))] for name, one in tables.items()}
    pools = np.array([table.pool(i)[1].std() for i in range(len(table))])
    differences = np.subtract(spread["random"], spread["hard"])
    low, high = stats.ttest_1samp(differences, 0).confidence_interval()
    expected = [pools.mean(), np.mean(spread["random"]), np.abs(spread["random"] - pools).mean()]
    assert found.loc["std", "random"].tolist() == pytest.approx([*expected, differences.mean(), low, high])
    assert found.loc["range", "hard"]["difference"] == 0
    assert found.loc["entropy", "hard"]["shown"] == pytest.approx(
        analysis.shown_distribution(table, samplers["hard"]).entropy
    )


def test_pools_of_one_document_leave_the_others_in_their_places(table_of):
    """Left out of the pools and not of the groups, every later query would be held against its neighbour."""
    table = table_of([RNG.normal(size=n) for n in (3, 1, 4, 1, 5)])
    found = analysis.compare_samplers(table, {"whole": RandomSampler(0, 5)})
    assert found["off"].tolist() == pytest.approx([0] * len(found))


def test_queries_that_one_sampler_shows_too_little_of_are_left_out_for_all(table_of):
    """The filter leaves nothing beside the positive of q0."""
    table = table_of([[1.0, 5, 6], [9.0, 5, 1]], positive=[[0], [0]])
    samplers = {"filtered": HardNegativeSampler(1, 2, absolute_margin=0), "whole": RandomSampler(1, 2)}
    found = analysis.compare_samplers(table, samplers)
    assert found.loc["range", "whole"]["pool"] == 8 and np.isnan(found.loc["range", "whole"]["low"])


def test_kept_shares_are_ratios_of_means(table):
    samplers = {"stratified": StratifiedSampler(1, 3), "hard": HardNegativeSampler(1, 3)}
    found = analysis.kept_shares(table, samplers)
    assert found.index.tolist() == [(s, n) for s in ("variance", "entropy", "range") for n in samplers]
    for name, sampler in samplers.items():
        shown = shown_table(table, sampler)
        variance = [[one.pool(i)[1].var() for i in range(len(one))] for one in (table, shown)]
        row = found.loc["variance", name]
        assert row[["pool", "shown"]].tolist() == pytest.approx(np.mean(variance, axis=1))
        assert row["kept"] == pytest.approx(np.sum(variance[1]) / np.sum(variance[0]))


def test_the_interval_of_a_kept_share_is_that_of_a_bootstrap(table_of):
    pools = [RNG.normal(0, RNG.uniform(1, 3), size=20) for _ in range(24)] * 1
    table = table_of(pools)
    found = analysis.kept_shares(table, {"random": RandomSampler(0, 8)}, ("range",)).loc["range", "random"]
    pool = query_statistics(table)["range"].to_numpy()
    shown = query_statistics(shown_table(table, RandomSampler(0, 8)))["range"].to_numpy()
    draws = RNG.integers(0, 24, size=(4000, 24))
    low, high = np.quantile(shown[draws].sum(axis=1) / pool[draws].sum(axis=1), [0.025, 0.975])
    assert found["high"] - found["low"] == pytest.approx(high - low, rel=0.2)
    assert low < found["kept"] < high


def test_groups_that_are_the_pools_keep_all_of_them_for_sure(table):
    found = analysis.kept_shares(table, {"whole": RandomSampler(0, 20)})
    assert found[["kept", "low", "high"]].to_numpy() == pytest.approx(1)


def test_of_nothing_no_share_is_kept(table_of):
    """Division by the variance of equal scores."""
    found = analysis.kept_shares(
        table_of([[2, 2, 2], [1, 1]]), {"random": RandomSampler(0, 2)}, ("variance",)
    )
    assert found["kept"].isna().all() and found["shown"].tolist() == [0]


def test_what_cannot_be_compared_is_said(table):
    with pytest.raises(InputError, match="samplers: none to compare"):
        analysis.compare_samplers(table, {})
    with pytest.raises(InputError, match="statistic='spread': it is one of variance, std"):
        analysis.kept_shares(table, {"random": RandomSampler(1, 3)}, ("spread",))


def test_histograms_share_their_intervals(table):
    tables = {"pool": table, "hard": shown_table(table, HardNegativeSampler(1, 3))}
    found = analysis.score_histogram(tables, bins=10)
    edges = np.append(found.index.left, found.index[-1].right)
    assert len(found) == 10 and np.diff(edges) == pytest.approx(edges[1] - edges[0])
    for name, one in tables.items():
        inside = one.scores[(one.scores >= edges[0]) & (one.scores <= edges[-1])]
        assert found[name].to_numpy() == pytest.approx(np.histogram(inside, edges, density=True)[0])
