import numpy as np
import pytest
from scipy import stats

from rankdistill import analysis
from rankdistill.analysis.distribution import describe
from rankdistill.analysis.plots import save
from rankdistill.samplers import HardNegativeSampler, RandomSampler


def test_spread_and_entropy_of_a_known_group():
    """Scores 3, 1, -1: softmax .8668, .1173, .0159, entropy .441057 nats."""
    found = describe([np.array([3.0, 1.0, -1.0], np.float32)])
    assert found.entropy == pytest.approx(0.441057, abs=1e-6)
    assert found.entropy_share == pytest.approx(0.441057 / np.log(3), abs=1e-6)
    assert found.range == 4 and found.std == pytest.approx(np.std([3, 1, -1]))


def test_equal_scores_have_the_highest_entropy_and_saturated_ones_none():
    assert describe([np.zeros(4)]).entropy_share == pytest.approx(1)
    assert describe([np.array([1000.0, 0.0])]).entropy == 0


def test_shown_scores_are_those_of_the_groups(table):
    shown = analysis.group_scores(table, HardNegativeSampler(1, 3))
    for i, scores in enumerate(shown):
        _, pool, positive = table.pool(i)
        assert scores.tolist() == [*pool[positive], *np.sort(pool[~positive])[::-1][:3]]


def test_samplers_are_compared_query_by_query(table):
    """Each row against the pools and groups themselves, the interval against scipy's."""
    samplers = {"hard": HardNegativeSampler(1, 3), "random": RandomSampler(1, 3)}
    found = analysis.compare_samplers(table, samplers, seed=4)
    spread = {name: [np.std(x) for x in analysis.group_scores(table, s, 4)] for name, s in samplers.items()}
    pools = np.array([table.pool(i)[1].std() for i in range(len(table))])
    differences = np.subtract(spread["random"], spread["hard"])
    low, high = stats.ttest_1samp(differences, 0).confidence_interval()
    expected = [pools.mean(), np.mean(spread["random"]), np.abs(spread["random"] - pools).mean()]
    assert found.loc["std", "random"].tolist() == pytest.approx([*expected, differences.mean(), low, high])
    assert found.loc["range", "hard"]["difference"] == 0
    assert found.loc["entropy", "hard"]["shown"] == pytest.approx(
        analysis.shown_distribution(table, samplers["hard"]).entropy
    )


def test_every_plot_is_drawn(table, tmp_path):
    samplers = {"hard": HardNegativeSampler(1, 3), "random": RandomSampler(1, 3)}
    history = [{"step": i, "loss": 1 / (i + 1), "agreement": 0.5, "stage": "ab"[i > 2]} for i in range(6)]
    before = {f"q{i}": 0.5 for i in range(9)}
    after = {f"q{i}": i / 9 for i in range(9)}
    axes = [
        analysis.plot_score_distribution(table, samplers),
        analysis.plot_learning_curve([*history, {"train_runtime": 1.0, "step": 6}]),
        analysis.plot_gains(before, after, "nDCG@10"),
    ]
    for i, ax in enumerate(axes):
        save(ax, tmp_path / f"{i}.png")
        assert (tmp_path / f"{i}.png").stat().st_size > 5000
        assert ax.get_xlabel() and ax.get_ylabel() and ax.get_title()
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["pool", "hard", "random"]
