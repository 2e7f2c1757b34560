"""Run folders made by hand, so that every figure in the report is known."""

import csv
import json
import logging
import subprocess
import sys

import numpy as np
import pytest
from omegaconf import OmegaConf

from rankdistill import report
from rankdistill.analysis import plot_report
from rankdistill.errors import InputError
from rankdistill.evaluation import compare


def write_run(folder, overrides, seed=0, values=None, log=None, conditions=None):
    """``values``: system -> measure -> one value a query; None: the run never finished."""
    (folder / ".hydra").mkdir(parents=True)
    lines = [f"- {key}={value}\n" for key, value in overrides.items()] + [f"- seed={seed}\n"]
    (folder / ".hydra" / "overrides.yaml").write_text("".join(lines))
    config = {"seed": seed, "sampler": {"negatives": 7}, "loss": {}, "teacher": {}}
    fields = [f"{key}={value}" for key, value in overrides.items() if "." in key]
    OmegaConf.save(OmegaConf.merge(config, OmegaConf.from_dotlist(fields)), folder / ".hydra" / "config.yaml")
    groups = {key: value for key, value in overrides.items() if "." not in key}
    choices = {"sampler": "stratified", "loss": "kl", "data": "python_functions"} | groups
    hydra = {"hydra": {"runtime": {"choices": choices}}}
    OmegaConf.save(OmegaConf.create(hydra), folder / ".hydra" / "hydra.yaml")
    (folder / "conditions.json").write_text(json.dumps(conditions or {"torch": "1"}))
    if log:
        (folder / "train.log").write_text(log)
    if values:
        systems, measures = list(values), list(next(iter(values.values())))
        with open(folder / "per_query.csv", "w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["query_id", *(f"{m} {s}" for m in measures for s in systems)])
            for q in range(len(values[systems[0]][measures[0]])):
                writer.writerow([f"q{q}", *(values[s][m][q] for m in measures for s in systems)])
        (folder / "metrics.json").write_text("{}")
    return folder


@pytest.fixture
def sweep(tmp_path):
    """Two samplers x two seeds: stratified is better by 0.1 on average; random has a third seed."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.2, 0.6, size=50)
    made = {}
    for name, gain in (("random", 0.0), ("stratified", 0.1)):
        for seed in (0, 1):
            after = base + gain + rng.normal(0, 0.05, size=50)
            made[name, seed] = after
            write_run(
                tmp_path / f"{name}{seed}",
                {"sampler": name, "loss": "kl"},
                seed,
                {"before": {"nDCG@10": base}, "after": {"nDCG@10": after}},
            )
    return tmp_path, base, made


def test_the_table_holds_mean_and_deviation_over_seeds(sweep):
    folder, base, made = sweep
    found = report(folder)
    assert found.swept == ("sampler",), "loss and seed were not swept"
    assert [s.values for s in found.settings] == [("stratified",), ("random",)], "best first"
    means = [made["stratified", seed].mean() for seed in (0, 1)]
    best = found.rows()[1]
    assert best == ["stratified", "2", f"{np.mean(means):.4f} ± {np.std(means, ddof=1):.4f}", "a"]
    assert found.rows()[2][-1] == "b"
    assert found.rows()[3] == ["before", "", f"{base.mean():.4f}", ""]


def test_pairs_are_tested_over_queries_with_seeds_averaged(sweep):
    folder, _, made = sweep
    (pair,) = report(folder).pairs
    mean = {name: (made[name, 0] + made[name, 1]) / 2 for name in ("random", "stratified")}
    expected = compare(dict(enumerate(mean["random"])), dict(enumerate(mean["stratified"])))
    assert pair.difference.difference == pytest.approx(expected.difference)
    assert pair.difference.n == 50, "queries, not queries times seeds"
    assert pair.p_t == pytest.approx(expected.p), "one pair needs no correction"
    assert pair.p_randomisation < 0.01 and pair.p_equivalence > 0.99
    assert report(folder, margin=0.5).pairs[0].p_equivalence < 0.01


def test_what_a_run_leaves_at_its_default_counts_as_set(sweep):
    """Else the default sampler and the same one by name stand in two rows."""
    folder, base, _ = sweep
    write_run(folder / "plain", {"loss": "kl"}, 2, {"after": {"nDCG@10": base}})
    write_run(
        folder / "named", {"sampler": "random", "sampler.negatives": "7"}, 2, {"after": {"nDCG@10": base}}
    )
    found = report(folder)
    assert found.swept == ("sampler",)
    assert {s.values: set(s.seeds) for s in found.settings} == {
        (name,): {0, 1, 2} for name in ("random", "stratified")
    }
    write_run(folder / "more", {"sampler.negatives": "9"}, 0, {"after": {"nDCG@10": base}})
    found = report(folder)
    assert {"sampler": "stratified", "sampler.negatives": "9"} in [
        dict(zip(found.swept, setting.values, strict=True)) for setting in found.settings
    ]


def test_failed_and_unfinished_runs_are_named(sweep):
    folder, *_ = sweep
    line = "[2026-01-01 00:00:00,000][rankdistill.command][ERROR] - the loss is nan; lower it\n"
    write_run(folder / "hard0", {"sampler": "hard", "loss": "kl"}, log=line)
    write_run(folder / "hard1", {"sampler": "hard", "loss": "kl"}, 1)
    found = report(folder)
    assert found.unfinished == {
        str(folder / "hard0"): "the loss is nan; lower it",
        str(folder / "hard1"): "unfinished: killed, or still running",
    }
    assert "not in the table" in found.markdown() and "the loss is nan" in found.markdown()


def test_what_was_not_equal_is_said(sweep):
    folder, base, _ = sweep
    values = {"after": {"nDCG@10": base}}
    conditions = {"torch": "2", "collection": "abc"}
    write_run(folder / "later", {"sampler": "hard", "loss": "kl"}, 0, values, conditions=conditions)
    found = report(folder)
    assert found.unequal == {"torch": ["1", "2"], "collection": ["?", "abc"]}
    assert "not equal in all runs: torch: '1', '2'" in found.markdown()
    assert "not all settings have as many seeds" in found.markdown()


def test_settings_on_other_queries_are_listed_but_not_compared(sweep):
    folder, *_ = sweep
    other = {"after": {"nDCG@10": np.full(7, 0.5)}}
    write_run(folder / "other", {"sampler": "random", "loss": "kl", "data": "beir"}, 0, other)
    found = report(folder)
    assert found.swept == ("sampler", "data") and len(found.settings) == 3 and len(found.pairs) == 1
    assert found.letters == ["1a", "1b", "2a"] or found.letters == ["1a", "2a", "1b"]
    assert "have other queries: not compared" in found.markdown()
    assert "other queries, not compared" in plot_report(found).get_title()


def test_the_same_setting_and_seed_twice_counts_once(sweep, caplog):
    folder, base, _ = sweep
    write_run(folder / "random9", {"sampler": "random", "loss": "kl"}, 1, {"after": {"nDCG@10": base + 0.3}})
    with caplog.at_level(logging.WARNING):
        found = report(folder)
    assert "the later counts" in caplog.text
    random = next(s for s in found.settings if s.values == ("random",))
    assert random.by_seed["nDCG@10"][1] == pytest.approx(base.mean() + 0.3)


def test_one_setting_alone_is_a_report_too(tmp_path):
    write_run(tmp_path / "0", {"loss": "kl"}, 0, {"after": {"AP": [0.1, 0.3]}})
    found = report(tmp_path)
    assert found.rows()[1] == ["all runs", "1", "0.2000", "a"] and found.pairs == []


def test_folders_without_a_finished_run_and_unknown_measures_raise(tmp_path, sweep):
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no finished run"):
        report(tmp_path / "none")
    with pytest.raises(InputError, match="no such folder"):
        report(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has nDCG@10"):
        report(sweep[0], measure="AP")


def test_tables_are_whole_in_every_form(sweep):
    folder, *_ = sweep
    found = report(folder)
    lines = found.markdown().splitlines()
    assert lines[0].startswith("| sampler") and len({len(line) for line in lines[:5]}) == 1
    head, best, worse = found.numbers()
    assert head == ["sampler", "seeds", "nDCG@10", "nDCG@10 sd", "letters"]
    assert best[2] == pytest.approx(
        np.mean([sweep[2]["stratified", seed].mean() for seed in (0, 1)]), abs=1e-12
    )
    (head, row), pair = found.pair_numbers(), found.pairs[0]
    assert dict(zip(head, row, strict=True))["better sampler"] == "stratified" and worse[0] == "random"
    assert dict(zip(head, row, strict=True))["low"] == pair.difference.low and head[-1] == "p_tost"
    tex = found.latex()
    assert tex.count(r"\\") == 4 and r"$\pm$" in tex and "±" not in tex
    axes = plot_report(found)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["stratified  a", "random  b"]


@pytest.fixture
def crossed(tmp_path):
    """Two samplers x two losses x two seeds on 20 queries, and every run's values."""
    rng = np.random.default_rng(1)
    made = {}
    for sampler in ("random", "hard"):
        for loss in ("kl", "lce"):
            for seed in (0, 1):
                values = made[sampler, loss, seed] = rng.uniform(size=20)
                write_run(
                    tmp_path / f"{sampler}{loss}{seed}",
                    {"sampler": sampler, "loss": loss},
                    seed,
                    {"after": {"nDCG@10": values}},
                )
    return tmp_path, made


def test_by_averages_over_the_other_fields(crossed):
    folder, made = crossed
    found = report(folder, by=["sampler"])
    assert found.swept == ("sampler",) and sorted(s.values for s in found.settings) == [
        ("hard",),
        ("random",),
    ]
    for setting in found.settings:
        (name,) = setting.values
        for seed, mean in zip(setting.seeds, setting.by_seed["nDCG@10"], strict=True):
            assert mean == pytest.approx(np.mean([made[name, loss, seed] for loss in ("kl", "lce")]))
        runs = [values for key, values in made.items() if key[0] == name]
        assert list(setting.per_query["nDCG@10"].values()) == pytest.approx(list(np.mean(runs, axis=0)))
    assert (
        found.averaged == {"loss": ["kl", "lce"]} and "each is the mean over loss: kl, lce" in found.notes()
    )
    assert "mean over 2 loss" in plot_report(found).get_title()
    assert [s.values for s in report(folder, by=["loss", "sampler"]).settings][0] in {
        (loss, sampler) for sampler, loss, _ in made
    }


def test_numbers_that_were_averaged_stand_by_their_size(tmp_path):
    for negatives in (15, 3):
        for name in ("hard", "random"):
            settings = {"sampler": name, "sampler.negatives": negatives}
            write_run(tmp_path / f"{name}{negatives}", settings, 0, {"after": {"AP": [0.1, 0.2]}})
    assert report(tmp_path, by=["sampler"]).averaged == {"sampler.negatives": ["3", "15"]}


def test_a_value_counts_however_it_was_written(tmp_path):
    """What a run sets and another has by default are one setting: their seeds are averaged."""
    for seed, text in ((0, "5e-5"), (1, "0.00005")):
        settings = {"trainer.learning_rate": text, "evaluation.teacher": "true", "student.lora": "null"}
        write_run(tmp_path / f"run{seed}", settings, seed, {"after": {"AP": [0.1, 0.2]}})
    found = report(tmp_path)
    assert found.swept == () and [s.seeds for s in found.settings] == [(0, 1)]
    write_run(tmp_path / "other", {"student.lora": "{r: 8}"}, 0, {"after": {"AP": [0.3, 0.2]}})
    assert report(tmp_path).swept == ("trainer.learning_rate", "evaluation.teacher", "student.lora")


def test_pairs_too_many_for_a_randomisation_test_are_said(tmp_path):
    """Holm's correction multiplies the least p that its draws can give."""
    for i in range(33):
        write_run(tmp_path / f"run{i}", {"sampler.negatives": i}, 0, {"after": {"AP": [i / 50, i / 40]}})
    assert any(
        "of 528 pairs no corrected p (randomisation) can be below 0.053" in n
        for n in report(tmp_path).notes()
    )


def test_by_refuses_unlike_runs_and_fields_that_were_not_swept(crossed):
    folder, _ = crossed
    with pytest.raises(InputError, match="by seed: was not swept; sampler, loss was"):
        report(folder, by=["seed"])
    (folder / "hardlce1" / "metrics.json").unlink()
    with pytest.raises(InputError, match="hard lce has no finished run with seed 1"):
        report(folder, by=["sampler"])
    assert len(report(folder).settings) == 4, "without by what is there is compared"
    (folder / "randomlce1" / "metrics.json").unlink()  # lacking in both: the means would be of unlike seeds
    with pytest.raises(InputError, match="lce has no finished run with seed 1"):
        report(folder, by=["sampler"])


def test_the_plot_shows_the_intervals_of_the_differences_from_the_first(sweep):
    folder, *_ = sweep
    found = report(folder)
    axes = plot_report(found)
    (line,) = [line for line in axes.get_lines() if "95 % interval" in str(line.get_label())]
    first = np.mean(found.settings[0].by_seed["nDCG@10"])
    (pair,) = found.pairs
    assert line.get_xdata() == pytest.approx([first - pair.difference.high, first - pair.difference.low])
    assert list(line.get_ydata()) == [1, 1]


@pytest.mark.slow
def test_the_command_prints_the_table_and_writes_every_form(sweep):
    folder, *_ = sweep
    words = [sys.executable, "-m", "rankdistill.report"]
    done = subprocess.run([*words, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| stratified" in done.stdout and "p (TOST)" in done.stdout
    names = {"report.md", "report.tex", "report.csv", "pairs.csv", "report.png"}
    assert names <= {file.name for file in folder.iterdir()}
    done = subprocess.run([*words, str(folder), "--by", "sampler"], capture_output=True, text=True)
    assert done.returncode == 0 and (folder / "report_by_sampler.md").exists(), done.stderr
    done = subprocess.run([*words, str(folder / "nowhere")], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr
