import numpy as np
import pytest
from scipy import stats

from rankdistill import analysis
from rankdistill.analysis.distribution import query_statistics
from rankdistill.analysis.per_query import shown_table
from rankdistill.errors import InputError
from rankdistill.samplers import HardNegativeSampler, RandomSampler, StratifiedSampler

RNG = np.random.default_rng(0)


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
    pools = [RNG.normal(0, RNG.uniform(1, 3), size=20) for _ in range(24)]
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
    with pytest.raises(InputError, match="statistic='spread': it must be one of variance, std"):
        analysis.kept_shares(table, {"random": RandomSampler(1, 3)}, ("spread",))
