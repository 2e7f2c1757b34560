import importlib
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats
from sentence_transformers import SentenceTransformer

from rankdistill import analysis
from rankdistill.analysis.distribution import STATISTICS, query_statistics
from rankdistill.analysis.per_query import shown_table
from rankdistill.analysis.plots import save
from rankdistill.errors import InputError
from rankdistill.samplers import HardNegativeSampler, RandomSampler

SAMPLERS = {"hard": HardNegativeSampler(1, 3), "random": RandomSampler(1, 3)}
MEASURES = ("nDCG@10", "RR@10", "R@100", "AP")
DEV = [{"eval_nDCG@10": 0.25, "eval_AP": 0.1, "step": 2}, {"eval_nDCG@10": 0.5, "eval_AP": 0.2, "step": 4}]
LONG = "stratified space=quantile placement=ends teacher_temperature=0.5 learning_rate=0.0001"


def labels(ax):
    """Of the legend, in the axes or under them."""
    found = ax.get_legend() or ax.figure.legends[0]
    return [text.get_text() for text in found.get_texts()]


def outside(ax):
    """The texts of a drawn figure that its edges cut off."""
    ax.figure.draw_without_rendering()
    edges = ax.figure.bbox
    legend = [text for one in ax.figure.legends for text in one.get_texts()]
    low, high = sorted(ax.get_ylim())
    ticks = [text for text in ax.get_yticklabels() if low <= text.get_position()[1] <= high]
    texts = [ax.title, ax.xaxis.label, *ticks, *ax.texts, *legend]
    boxes = {text.get_text(): text.get_window_extent() for text in texts if text.get_text()}
    return [
        name
        for name, box in boxes.items()
        if box.x0 < edges.x0 - 1 or box.x1 > edges.x1 + 1 or box.y0 < edges.y0 - 1 or box.y1 > edges.y1 + 1
    ]


def report_of(*values, swept=("a.space", "a.placement")):
    settings = [
        SimpleNamespace(
            values=one,
            names=one,
            by_seed={"AP": [0.1, 0.1 + 0.01 * i]},
            per_query={"AP": {"q0": 0.1, "q1": 0.1}},
        )
        for i, one in enumerate(values)
    ]
    return SimpleNamespace(
        settings=settings,
        measure="AP",
        swept=swept,
        letters=["a"] * len(settings),
        pairs=[],
        averaged={},
        others={"before": {"AP": (0.05, 0.06)}},
    )


@pytest.fixture
def plots(table):
    """Every plot of many and long names."""
    many = {f"{LONG} {i}": RandomSampler(1, 2 + i) for i in range(9)}
    kept = analysis.kept_shares(table, many, STATISTICS)
    student = np.random.default_rng(0).normal(size=len(table.scores))
    agreements = {name: analysis.agreement(table, student + i) for i, name in enumerate(many)}
    index = pd.MultiIndex.from_product([["pool", *many], ["q0", "q1"]], names=["sampler", "query_id"])
    places = pd.DataFrame({"diameter": 1.0, "log_density": np.arange(20.0)}, index=index)
    history = [{"step": i, "loss": 1 / (i + 1), "agreement": 0.5, "stage": "ab"[i > 2]} for i in range(6)]
    before, after = ({f"q{i}": value(i) for i in range(9)} for value in (lambda i: 0.5, lambda i: i / 9))
    return {
        "scores": analysis.plot_score_distribution(table, many),
        "statistic": analysis.plot_statistic(table, many),
        "kept": analysis.plot_kept(kept),
        "agreement": analysis.plot_agreement(agreements, "kl"),
        "false negatives": analysis.plot_false_negatives(dict.fromkeys(many, pd.Series([0.1, 0.3, np.nan]))),
        "diameter": analysis.plot_locality(places),
        "density": analysis.plot_locality(places, "log_density"),
        "learning": analysis.plot_learning_curve([*history, {"train_runtime": 1.0, "step": 6}], queries=9),
        "measures": analysis.plot_measures({n: {m: before for m in MEASURES} for n in ("before", "after")}),
        "student": analysis.plot_student_scores(table, {"before": student, "after": student + 1}),
        "learning with dev": analysis.plot_learning_curve([*history, *DEV], queries=9),
        "gains": analysis.plot_gains(before, after, "nDCG@10"),
        "report": analysis.plot_report(report_of((LONG, "x"), ("y", LONG))),
    }


def test_every_plot_is_whole_and_says_what_it_shows(plots, tmp_path):
    """Long names and many of them are cut off nowhere."""
    for name, ax in plots.items():
        save(ax, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (ax.get_xlabel() or name == "measures") and ax.get_title(), name
        assert outside(ax) == [], name
        suptitle = ax.figure.get_suptitle()
        assert re.search(r"\d+ (training )?quer", ax.get_title() + ax.get_xlabel() + suptitle), name


def test_a_dev_measure_has_an_axis_of_its_own(plots):
    """Of the evaluator's measures the first, at the steps where it was taken."""
    figure = plots["learning with dev"].get_figure()
    (line,) = [line for ax in figure.axes for line in ax.get_lines() if "dev" in line.get_label()]
    assert line.get_xydata().tolist() == [[2, 0.25], [4, 0.5]]
    assert "nDCG@10 of the dev queries" in [ax.get_ylabel() for ax in figure.axes]


def test_no_sampler_is_missing_from_a_plot(plots):
    """The styles of lines once ended at the fourth, and with them the samplers."""
    for name in ("scores", "statistic", "agreement"):
        assert sum(label.startswith(LONG) for label in labels(plots[name])) == 9, name
    for name in ("kept", "false negatives", "diameter"):
        names = [text.get_text() for text in plots[name].get_yticklabels()]
        assert sum(label.startswith(LONG) for label in names) == 9, name
    lines = [line for line in plots["statistic"].get_lines() if line.get_label().startswith(LONG)]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 9


def test_a_statistic_is_drawn_as_the_share_of_queries_up_to_it(table):
    ax = analysis.plot_statistic(table, SAMPLERS, "range", seed=3)
    for sampler, line in zip((None, *SAMPLERS.values()), ax.get_lines()[3:], strict=True):
        one = table if sampler is None else shown_table(table, sampler, 3)
        values = query_statistics(one)["range"]
        assert sorted(line.get_xdata())[1:] == pytest.approx(sorted(values))
        assert line.get_label().endswith(f"(mean {values.mean():.3g})")
    quartiles = [line.get_xdata()[0] for line in ax.get_lines()[:3]]
    assert quartiles == pytest.approx(query_statistics(table)["range"].quantile([0.25, 0.5, 0.75]).tolist())
    assert labels(ax)[0].startswith("pool")
    with pytest.raises(InputError, match="statistic='spread': it must be one of"):
        analysis.plot_statistic(table, SAMPLERS, "spread")


def test_scores_are_drawn_as_their_histogram(table):
    ax = analysis.plot_score_distribution(table, SAMPLERS)
    assert labels(ax) == ["pool", "hard", "random", "positives"]
    tables = {"pool": table} | {name: shown_table(table, one) for name, one in SAMPLERS.items()}
    density = analysis.score_histogram(tables)
    for name, drawn in zip(tables, ax.patches, strict=True):
        assert drawn.get_data().values == pytest.approx(density[name].to_numpy())
    marks = ax.get_lines()[0]
    assert marks.get_xdata() == pytest.approx(table.scores[table.candidates.positive])
    assert (marks.get_ydata() < 0).all() and ax.get_ylim()[0] < marks.get_ydata()[0], "under them all"


def test_what_is_kept_is_at_its_share_beside_its_sampler(table):
    kept = analysis.kept_shares(table, SAMPLERS, ("entropy",))
    ax = analysis.plot_kept(kept)
    line = ax.containers[0].lines[0]
    assert line.get_xdata() == pytest.approx(kept["kept"].to_numpy())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["hard", "random"]
    assert line.get_ydata() == pytest.approx([0, 1]) and ax.get_ylim()[0] > ax.get_ylim()[1]


def test_one_query_is_enough_for_every_plot(table):
    """No interval, no quartiles, every score perhaps the same."""
    one = table.take([0])
    drawn = [
        analysis.plot_score_distribution(one, SAMPLERS),
        analysis.plot_statistic(one, SAMPLERS),
        analysis.plot_kept(analysis.kept_shares(one, SAMPLERS)),
        analysis.plot_agreement({"before": analysis.agreement(one, one.scores)}, "margin_correlation"),
        analysis.plot_agreement({"none": pd.DataFrame({"kl": [np.nan]})}, "kl"),
        analysis.plot_false_negatives({"pool": analysis.false_negatives(one)}),
        analysis.plot_false_negatives({"none": pd.Series([np.nan])}),
    ]
    assert [outside(ax) for ax in drawn] == [[]] * 7
    assert [text.get_text() for text in drawn[-1].texts] == [" none"]


def test_a_sampler_is_drawn_whole_from_some_of_many_queries(
    table, student_folder, tmp_path, monkeypatch, caplog
):
    """Plots of all half million queries would take longer than the training."""
    model, seen = SentenceTransformer(student_folder, device="cpu"), []
    groups = importlib.import_module("rankdistill.analysis.plots.groups")
    monkeypatch.setattr(groups, "DRAWN", 5)
    monkeypatch.setattr(groups, "save", lambda axes, path: (seen.append(axes), save(axes, path)))
    with caplog.at_level("INFO"):
        analysis.save_group_plots(tmp_path, table, SAMPLERS, model, seed=1)
    names = ["entropy", "false_negatives", "kept", "locality", "score_distribution"]
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == names
    assert sorted(path.stem for path in tmp_path.glob("*.pdf")) == names
    places = seen[3].get_xlabel()
    assert (
        "99% quantile of euclidean distances" in places and "student's embeddings before training" in places
    )
    assert "share of ln n" in seen[1].get_xlabel(), "pools and groups are of different sizes"
    said = " ".join(seen[1].get_xlabel().split())
    assert "softmax of the teacher's raw scores" in said, "teacher_entropy of the log is of scaled ones"
    assert f"of 5 of the {len(table)} training queries" in caplog.text
    assert [outside(ax) for ax in seen] == [[]] * 5
    pool = seen[1].get_lines()[3]
    assert len(pool.get_xdata()) == 5 + 1, "the pools of the drawn queries"


def test_a_plot_goes_into_given_axes_and_leaves_their_figure_as_it_was(table):
    left, right = Figure(figsize=(9, 3), layout="constrained").subplots(1, 2)
    many = {f"{LONG} {i}": RandomSampler(1, 2 + i) for i in range(6)}
    assert analysis.plot_statistic(table, many, ax=left) is left
    assert analysis.plot_kept(analysis.kept_shares(table, many), ax=right) is right
    assert left.figure.get_size_inches().tolist() == [9, 3] and left.get_legend() and right.get_legend()


def test_a_report_is_as_wide_as_the_labels_it_draws():
    """They are longer than the swept values where a field's name comes first, shorter without defaults."""
    short = analysis.plot_report(report_of(("mid", "-")))
    unsaid = analysis.plot_report(report_of(("mid", "-"), ("-",) * 2, swept=("a.b", "a.c")))
    long = analysis.plot_report(report_of(("mid", "ends"), swept=("a.space_of_the_anchors", "a.placement")))
    widths = [ax.figure.get_size_inches()[0] for ax in (short, unsaid, long)]
    assert widths[0] == pytest.approx(4.5 + 0.08 * len("space=mid  a"))
    assert widths[1] == pytest.approx(4.5 + 0.08 * len("defaults  a"))
    assert widths[2] == pytest.approx(4.5 + 0.08 * len("space_of_the_anchors=mid placement=ends  a"))


def test_bars_are_means_with_their_t_intervals():
    """Of each mean, over its queries."""
    rng = np.random.default_rng(0)
    results = {
        name: {m: {f"q{i}": v for i, v in enumerate(rng.uniform(size=20))} for m in MEASURES[:2]}
        for name in ("before", "after", "teacher")
    }
    ax = analysis.plot_measures(results)
    bars, errors = ax.containers[::2], ax.containers[1::2]
    for (name, found), drawn, error in zip(results.items(), bars, errors, strict=True):
        assert drawn.get_label() == name
        for m, bar, ends in zip(found, drawn, error.lines[2][0].get_segments(), strict=True):
            values = list(found[m].values())
            interval = stats.ttest_1samp(values, 0).confidence_interval()
            assert bar.get_height() == pytest.approx(np.mean(values))
            assert ends[:, 1] == pytest.approx([interval.low, interval.high])
    assert analysis.plot_measures({"one": {"AP": {"q": 0.5}}}).patches[0].get_height() == 0.5


def test_every_pair_is_in_the_plot_of_student_and_teacher_scores(table):
    """Negatives are counted, positives drawn, each panel by itself and on the same axes."""
    student = np.random.default_rng(0).normal(size=len(table.scores)).astype(np.float32)
    ax = analysis.plot_student_scores(table, {"before": student, "after": -student})
    positive = table.candidates.positive
    for panel, scores in zip(ax.figure.axes, (student, -student), strict=True):
        (hexagons,) = panel.collections
        assert hexagons.get_array().sum() == (~positive).sum()
        dots = panel.get_lines()[0]
        assert dots.get_xdata() == pytest.approx(table.scores[positive])
        assert dots.get_ydata() == pytest.approx(scores[positive])
        assert panel.get_ylim() == ax.get_ylim()
    assert labels(ax) == ["positive", "negatives, counted"]


@pytest.mark.parametrize("first", [2, 10])
def test_the_names_of_stages_are_above_the_curves(first):
    """Written within the axes they covered the loss; a first stage of a few steps has its name for itself."""
    names = ["warmup"] * first + ["distillation"] * (100 if first == 2 else 10)
    rows = [{"step": i, "loss": 1 / i, "agreement": 0.5, "stage": name} for i, name in enumerate(names, 1)]
    ax = analysis.plot_learning_curve(rows, queries=9)
    figure = ax.figure
    figure.draw_without_rendering()
    top = ax.get_window_extent().y1
    assert [text.get_text().strip() for text in ax.texts] == ["distillation", "warmup"]
    later, former = (text.get_window_extent() for text in ax.texts)
    assert former.x1 <= later.x0
    for text in ax.texts:
        box = text.get_window_extent()
        assert box.y0 >= top, "above every curve"
        assert not box.overlaps(ax.title.get_window_extent())
    assert outside(ax) == []
