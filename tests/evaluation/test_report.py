"""Run folders made by hand, so that every figure in the report is known."""

import dataclasses
import logging
import os
import shutil
import sys
from itertools import product

import numpy as np
import pytest
from commands import start
from omegaconf import OmegaConf
from scipy import stats

from rankdistill import report
from rankdistill.analysis import plot_curves, plot_report
from rankdistill.commands.report import bullets, main, narrow, printed
from rankdistill.errors import InputError
from rankdistill.evaluation import compare
from rankdistill.evaluation.names import shown
from rankdistill.evaluation.training_runs import read_runs
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.folders import RunFolder, checksum, read_json, write_csv, write_json


def write_run(folder, overrides, seed=0, values=None, log=None, conditions=None, curve=None):
    """``values``: system -> measure -> one value a query; None: the run never finished. ``curve``: step ->
    nDCG@10 of the dev queries."""
    config = {"seed": seed, "sampler": {"negatives": 7}, "loss": {}, "teacher": {}}
    fields = [f"{key}={value}" for key, value in overrides.items() if "." in key]
    config = OmegaConf.merge(config, OmegaConf.from_dotlist(fields))
    groups = {key: value for key, value in overrides.items() if "." not in key}
    choices = {"sampler": "stratified", "loss": "kl", "data": "python_functions"} | groups
    words = [*(f"{key}={value}" for key, value in overrides.items()), f"seed={seed}"]
    with RunFolder(folder, config, words, choices) as run:
        if log:
            (folder / "train.log").write_text(log)
        if values:
            systems, measures = list(values), list(next(iter(values.values())))
            rows = [["query_id", *(f"{m} {s}" for m in measures for s in systems)]]
            for q in range(len(values[systems[0]][measures[0]])):
                rows.append([f"q{q}", *(values[s][m][q] for m in measures for s in systems)])
            write_csv(folder / "per_query.csv", rows)
            write_json(folder / "metrics.json", {"after": {"AP": 1.0}})
            history = [{"loss": 1.0, "step": 1}, {"eval_runtime": 1.0, "step": 1}]
            history += [{"eval_nDCG@10": value, "step": step} for step, value in (curve or {}).items()]
            write_json(folder / "history.json", history)
            names = ("run.json", "per_query.csv", "metrics.json")
            known = {"settings": run.settings, "files": {name: checksum(folder / name) for name in names}}
            write_json(folder / "conditions.json", (conditions or {"torch": "1"}) | known)
    return folder


def write_run_of_an_earlier_version(folder, overrides, values, settings=None):
    """With Hydra's own files, which any command in the folder wrote again."""
    (folder / ".hydra").mkdir(parents=True)
    config = {"seed": 0, "sampler": {}, "loss": {}, "teacher": {}}
    OmegaConf.save(OmegaConf.create(config), folder / ".hydra" / "config.yaml")
    OmegaConf.save(
        OmegaConf.create([f"{k}={v}" for k, v in overrides.items()]), folder / ".hydra" / "overrides.yaml"
    )
    OmegaConf.save(
        OmegaConf.create({"hydra": {"runtime": {"choices": overrides}}}), folder / ".hydra" / "hydra.yaml"
    )
    write_json(folder / "conditions.json", {"settings": settings or fingerprint(config), "torch": "1"})
    rows = [["query_id", "nDCG@10 after"], *([f"q{q}", value] for q, value in enumerate(values))]
    write_csv(folder / "per_query.csv", rows)
    write_json(folder / "metrics.json", {"after": {"nDCG@10": float(np.mean(values))}})


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
    """Else the default sampler and the same one by name would have two rows."""
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
    line = "[2026-01-01 00:00:00,000][rankdistill.commands.launch][ERROR] - the loss is nan; lower it\n"
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
    assert found.unequal == {
        "torch": "'1' of random and stratified; '2' of hard",
        "collection": "'?' of random and stratified; 'abc' of hard",
    }
    assert "not equal in all runs: torch: '1' of random and stratified; '2' of hard" in found.markdown()
    assert not any("due to that" in sentence for sentence in found.conclusions()), "it is of no student"
    assert "not all settings have the same seeds: " in found.markdown()
    assert "of 2 seeds: where these matter" in found.markdown(), "those of random and stratified"


BASE, GAINED = np.linspace(0.2, 0.8, 10), np.linspace(0.1, 0.9, 10)


def asked(values, *queries):
    """``values`` of some queries alone, as per_query.csv has a teacher that was asked of those."""
    return [value if i in queries else "" for i, value in enumerate(values)]


def write_taught(folder, teacher, loss="kl", data="beir", evaluated="one"):
    values = {"before": BASE, "after": GAINED, "teacher": teacher}
    settings = {"loss": loss, "data": data}
    values = {system: {"nDCG@10": of} for system, of in values.items()}
    return write_run(folder, settings, 0, values, conditions={"torch": "1", "evaluated": evaluated})


def test_a_teacher_of_other_queries_says_so_in_its_name_and_what_the_student_has_on_them(tmp_path):
    """On the queries 0 and 1 the teacher is above the student, whose mean over all ten is higher."""
    write_taught(tmp_path / "0", asked(BASE, 0, 1))
    found = report(tmp_path)
    teacher = (0.2 + 0.2 + 0.6 / 9) / 2
    student = (0.1 + 0.1 + 0.8 / 9) / 2
    assert teacher > student and GAINED.mean() > teacher
    assert found.rows()[2:] == [
        ["before", "", "0.5000", ""],
        ["teacher (2 queries)", "", f"{teacher:.4f}", ""],
    ]
    note = (
        "teacher (2 queries): these figures are of a sample, 2 of the 10 queries of the settings; do not "
        f"compare its row with theirs. On the same 2, the mean of nDCG@10 is {teacher:.4f}, and "
        f"{student:.4f} after training"
    )
    assert note in found.notes()
    for text in (found.markdown(), found.latex(), printed(found)):
        assert "teacher (2 queries)" in text
    assert list(found.others) == ["before", "teacher (2 queries)"]


def test_teachers_of_different_queries_have_a_row_each(tmp_path):
    for i, queries in enumerate(((0, 1), (8, 9), range(10))):
        write_taught(tmp_path / str(i), asked(BASE, *queries), loss=f"loss{i}")
    found = report(tmp_path)
    means = {row[0]: row[-2] for row in found.rows()[4:]}
    assert means == {
        "before": "0.5000",
        "teacher (2 queries, sample 1)": f"{(BASE[0] + BASE[1]) / 2:.4f}",
        "teacher (2 queries, sample 2)": f"{(BASE[8] + BASE[9]) / 2:.4f}",
        "teacher": "0.5000",
    }
    both = [note for note in found.notes() if note.startswith("teacher (2 queries, sample ")]
    assert len(both) == 2 and both[1].endswith(f"and {(GAINED[8] + GAINED[9]) / 2:.4f} of the settings")


def test_what_was_measured_on_two_collections_has_a_row_of_each(tmp_path):
    """A range over both would be of no collection."""
    write_taught(tmp_path / "0", asked(BASE, 0), data="beir")
    write_taught(tmp_path / "1", BASE / 2, data="hub", evaluated="two")
    rows = {row[0]: row[-2] for row in report(tmp_path).rows()[3:]}
    assert rows == {
        "before (1)": "0.5000",
        "before (2)": "0.5000",
        "teacher (1 query of 1)": "0.2000",
        "teacher (2)": "0.2500",
    }


def write_begun(folder, student, start, candidates=None, seed=0, **fields):
    """A run of ``student`` that gained 0.1 on every query but for a little."""
    noise = np.random.default_rng(len(student)).normal(0, 0.01, size=30)
    values = {"before": {"nDCG@10": np.full(30, start)}, "after": {"nDCG@10": start + 0.1 + noise}}
    overrides = {"student": student} | {name.replace("__", "."): value for name, value in fields.items()}
    made = {"torch": "1", "evaluated": "one", "candidates": candidates or "same"}
    return write_run(folder, overrides, seed, values, conditions=made)


def test_students_that_did_not_begin_alike_are_said_with_what_was_shown(tmp_path):
    """Both gained as much: the difference is that of their starts."""
    for seed in (0, 1):
        write_begun(tmp_path / f"minilm{seed}", "minilm", 0.7, seed=seed)
        write_begun(tmp_path / f"static{seed}", "static", 0.4, seed=seed)
    found = report(tmp_path)
    better, worse = found.rows()[1:3]
    said = (
        "the students did not begin alike, and a difference may be that of their starts: in nDCG@10 minilm "
        f"began at 0.7000 and ended at {better[2].split()[0]} and static began at 0.4000 and ended at "
        f"{worse[2].split()[0]}"
    )
    assert said in found.notes()
    (sentence,) = found.conclusions()
    assert "minilm was shown to be better than static" in sentence
    assert sentence.endswith(
        " But the settings did not begin alike (see the notes): a difference may be due to that alone."
    )
    write_begun(tmp_path / "2" / "a", "minilm", 0.7)
    write_begun(tmp_path / "2" / "b", "static", 0.7)
    alike = report(tmp_path / "2")
    assert not any("begin alike" in text for text in [*alike.notes(), *alike.conclusions()])


def test_other_candidates_are_said_with_who_has_them_and_what_to_set(tmp_path):
    """The encoder differs with them; a field that does not decide, such as the loss's, goes unsaid."""
    write_begun(tmp_path / "0", "minilm", 0.7, "aaa", candidates__encoder="x", loss__temperature=1)
    write_begun(tmp_path / "1", "static", 0.7, "aaa", candidates__encoder="x", loss__temperature=2)
    write_begun(tmp_path / "2", "sparse", 0.7, "bbb", candidates__encoder="y", loss__temperature=3)
    found = report(tmp_path)
    first, second = found.unequal["candidates"].split("; ")
    assert first.startswith("'aaa' of ") and "minilm" in first and "static" in first
    assert first.endswith("(candidates.encoder x)") and "sparse" not in first
    assert second.startswith("'bbb' of ") and "sparse" in second
    assert second.endswith("(candidates.encoder y). To compare the rest alone set candidates.encoder alike")
    assert not any("due to that" in text for text in found.conclusions()), "candidates are what was swept"


def test_candidates_that_follow_from_what_was_swept_are_a_caution(tmp_path):
    """As of students whose own dense candidates are mined."""
    for i, (student, candidates) in enumerate((("minilm", "aaa"), ("static", "aaa"), ("sparse", "bbb"))):
        folder = write_begun(tmp_path / str(i), student, 0.7, candidates)
        told = read_json(folder / "run.json", dict, "")
        told["config"]["candidates"] = {"encoder": "y" if student == "sparse" else "x"}
        write_json(folder / "run.json", told)
        conditions = read_json(folder / "conditions.json", dict, "")
        conditions["settings"] = fingerprint(told["config"])
        conditions["files"]["run.json"] = checksum(folder / "run.json")
        write_json(folder / "conditions.json", conditions)
    found = report(tmp_path)
    assert found.swept == ("student",)
    note = (
        "not equal in all runs: candidates: 'aaa' of minilm and static (candidates.encoder x); 'bbb' of "
        "sparse (candidates.encoder y). To compare the rest alone set candidates.encoder alike"
    )
    assert note in found.notes()
    (sentence,) = found.conclusions()
    end = " But the settings differ in candidates too (see the notes): a difference may be due to that alone."
    assert sentence.endswith(end)


def test_runs_of_two_collections_are_not_paired_though_their_query_ids_are_equal(sweep):
    """q0, q1, ... of one are not those of the other."""
    folder, base, _ = sweep
    values = {"after": {"nDCG@10": base}}
    for name, data, evaluated in (("a", "beir", "one"), ("b", "hub", "two"), ("c", "trec", "one")):
        made = {"torch": "1", "evaluated": evaluated}
        write_run(folder / name, {"sampler": "hard", "loss": "kl", "data": data}, 0, values, conditions=made)
    found = report(folder)
    paired = {frozenset((pair.first.values, pair.second.values)) for pair in found.pairs}
    assert frozenset((("hard", "beir"), ("hard", "trec"))) in paired
    assert not any(("hard", "hub") in pair for pair in paired) and len(paired) == 2
    assert "have other queries: not compared" in found.markdown()


def test_a_student_that_reranks_beside_one_that_searches_is_of_another_task(sweep):
    """Its figures stood beside theirs as if both had searched."""
    folder, base, _ = sweep
    values, tasks = {"after": {"nDCG@10": base}}, {}
    tasks = {"dense": "search", "sparse": "search", "cross_encoder": "reranking a"}
    for student, task in tasks.items():
        made = {"torch": "1", "evaluated": "one", "task": task}
        write_run(folder / "two" / student, {"student": student}, 0, values, conditions=made)
    text = " ".join(printed(report(folder / "two")).split())
    assert "* two tasks: cross_encoder reranks given candidates, and cannot find what these lack;" in text
    assert "task:" not in text, "it is no condition that should be equal"
    write_run(
        folder / "two" / "other",
        {"student": "other"},
        0,
        values,
        conditions={"evaluated": "one", "task": "reranking b"},
    )
    text = " ".join(printed(report(folder / "two")).split())
    assert "cross_encoder and other rerank given candidates" in text
    assert "cross_encoder and other: not all reranked the same candidates" in text
    for student in ("dense", "sparse"):
        (folder / "two" / student / "conditions.json").unlink()
    assert "two tasks" not in printed(report(folder / "two"))
    assert "task" not in printed(report(folder)), "runs of an earlier version do not say"


def test_seeds_of_two_collections_are_no_setting(sweep):
    folder, base, _ = sweep
    values = {"after": {"nDCG@10": base}}
    made = {"torch": "1", "evaluated": "another"}
    write_run(folder / "seed2", {"sampler": "random", "loss": "kl"}, 2, values, conditions=made)
    with pytest.raises(InputError, match="random: its seeds were measured on different queries"):
        report(folder)


DAMAGES = {"empty": b"", "list": b"[]", "cut": None, "bytes": b"\xff\xfe", "gone": None}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["run.json", "per_query.csv", "metrics.json", "conditions.json"])
def test_a_damaged_run_is_named_and_the_others_are_reported(sweep, name, damage):
    folder, *_ = sweep
    file = folder / "random1" / name
    if damage == "gone":
        file.unlink()
    else:  # per_query.csv is cut between two lines
        whole = file.read_bytes()
        file.write_bytes(DAMAGES[damage] if damage != "cut" else b"".join(whole.splitlines(True)[:-3]))
    runs = {run.folder.name: run.missing for run in read_runs(folder)}
    said = f"{name}: missing; " if damage == "gone" else f"{name}: damaged ("
    assert runs.pop("random1").startswith(said) and set(runs.values()) == {""}
    if name == "run.json" and damage == "list":  # the reports of all alike
        found = report(folder)
        assert list(found.unfinished) == [str(folder / "random1")] and "not in the table" in found.markdown()
        seeds = {setting.values: setting.seeds for setting in found.settings}
        assert seeds == {("stratified",): (0, 1), ("random",): (0,)}


@pytest.mark.parametrize("name", ["per_query.csv", ".hydra/config.yaml", ".hydra/hydra.yaml"])
def test_a_missing_file_of_a_run_of_an_earlier_version_is_named(tmp_path, name):
    """Its conditions.json has no checksums that would say so."""
    write_run_of_an_earlier_version(tmp_path / "0", {"sampler": "hard"}, [0.1, 0.3])
    (tmp_path / "0" / name).unlink()
    (run,) = read_runs(tmp_path)
    assert run.missing == f"{name}: missing; run it again"


def test_a_log_that_is_no_text_is_read_as_far_as_it_is(tmp_path):
    write_run(tmp_path / "0", {"loss": "kl"}, 0, {"after": {"AP": [0.1, 0.3]}})
    write_run(tmp_path / "1", {"loss": "kl"}, 1)
    (tmp_path / "1" / "train.log").write_bytes(b"\xff\n[x][ERROR] - the loss is nan\n")
    assert report(tmp_path).unfinished == {str(tmp_path / "1"): "the loss is nan"}


def test_runs_of_an_earlier_version_are_read_where_their_settings_are_their_own(tmp_path):
    """Their labels are Hydra's: those of another command, if one was started there later."""
    write_run_of_an_earlier_version(tmp_path / "0", {"sampler": "hard"}, [0.1, 0.3])
    write_run_of_an_earlier_version(tmp_path / "1", {"sampler": "random"}, [0.2, 0.5])
    write_run_of_an_earlier_version(tmp_path / "2", {"sampler": "stratified"}, [0.9, 0.9], settings="other")
    found = report(tmp_path)
    assert [setting.values for setting in found.settings] == [("random",), ("hard",)]
    assert list(found.unfinished) == [str(tmp_path / "2")]
    assert "another command was started in the same folder" in found.unfinished[str(tmp_path / "2")]


def test_runs_from_python_are_told_apart_by_their_fields(tmp_path):
    """They have no command line."""
    for i, negatives in enumerate((3, 7)):
        folder = write_run(
            tmp_path / str(i), {"sampler.negatives": negatives}, 0, {"after": {"AP": [0.1, 0.3]}}
        )
        told = read_json(folder / "run.json", dict, "") | {"overrides": None, "choices": {}}
        write_json(folder / "run.json", told)
        conditions = read_json(folder / "conditions.json", dict, "")
        conditions["files"]["run.json"] = checksum(folder / "run.json")
        write_json(folder / "conditions.json", conditions)
    found = report(tmp_path)
    assert found.swept == ("sampler.negatives",) and {s.values for s in found.settings} == {("3",), ("7",)}


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


def test_differences_that_depend_on_another_field(tmp_path):
    """The hardest documents cost 0.2 under KL and nothing under LCE, by construction; the test is by hand."""
    rng, made = np.random.default_rng(2), {}
    for sampler, loss in product(("random", "hard"), ("kl", "lce")):
        cost = 0.2 if (sampler, loss) == ("hard", "kl") else 0.0
        made[sampler, loss] = 0.5 - cost + 0.05 * rng.standard_normal(size=(1, 40))
        values = {"after": {"nDCG@10": made[sampler, loss][0]}}
        write_run(tmp_path / f"{sampler}{loss}", {"sampler": sampler, "loss": loss}, 0, values)
    found = report(tmp_path, by=["sampler", "loss"])
    (one,) = found.interactions
    assert one.of == ("hard", "random") and one.under == ("kl", "lce")
    gains = [made["random", loss] - made["hard", loss] for loss in ("kl", "lce")]
    assert one.gains == pytest.approx([gain.mean() for gain in gains])
    expected = stats.ttest_1samp((gains[0] - gains[1])[0], 0)
    assert one.p == one.difference.p == pytest.approx(expected.pvalue)
    assert (one.difference.low, one.difference.high) == pytest.approx(expected.confidence_interval())
    assert found.conclusions()[1].startswith(
        "nDCG@10: that a difference between values of sampler depends on loss was shown for 1 of 1: "
        f"random - hard is {one.gains[0]:+.4f} with kl and {one.gains[1]:+.4f} with lce (p = "
    )
    assert "| random - hard | kl   |" in found.markdown()
    assert report(tmp_path, by=["sampler"]).interactions == []


@pytest.mark.parametrize(("seeds", "share"), [(1, None), (2, "14 %"), (3, "9 %"), (5, None)])
def test_few_seeds_are_said_with_what_that_does_to_p(tmp_path, seeds, share):
    rng = np.random.default_rng(0)
    for seed, loss in product(range(seeds), ("kl", "lce")):
        write_run(
            tmp_path / f"{loss}{seed}", {"loss": loss}, seed, {"after": {"nDCG@10": rng.uniform(size=9)}}
        )
    said = [note for note in report(tmp_path).notes() if "of equal settings come out at p < 0.05" in note]
    assert (said == []) == (share is None) and all(f"up to {share}" in note for note in said)


def test_differences_of_differences_are_corrected_over_all(crossed, tmp_path):
    """Of noise alone, none is shown; a sweep with a setting missing has none."""
    folder, _ = crossed
    for seed in (0, 1):
        for loss in ("kl", "lce"):
            values = {"after": {"nDCG@10": np.random.default_rng(seed + 7).uniform(size=20)}}
            write_run(folder / f"third{loss}{seed}", {"sampler": "third", "loss": loss}, seed, values)
    found = report(folder)
    assert len(found.interactions) == 3
    p = sorted(one.difference.p for one in found.interactions)  # Holm: the least times 3, then 2, then 1
    assert [one.p for one in found.interactions] == [
        min(max((3 - i) * p[i] for i in range(k + 1)), 1) for k in range(3)
    ]
    assert "depends on loss was not shown (3 differences of differences, least p =" in found.conclusions()[1]
    for seed in (0, 1):
        shutil.rmtree(folder / f"thirdkl{seed}")
    assert report(folder).interactions == []


def test_numbers_that_were_averaged_are_ordered_by_their_size(tmp_path):
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
    with pytest.raises(InputError, match="by trainer.seed: was not swept; sampler, loss was"):
        report(folder, by=["trainer.seed"])
    with pytest.raises(
        InputError, match="by seed: .* mean over their seeds; name other fields: sampler, loss"
    ):
        report(folder, by=["seed"])
    (folder / "hardlce1" / "metrics.json").unlink()
    with pytest.raises(InputError, match="hard lce has no run with seed 1 in the table.*hardlce1: "):
        report(folder, by=["sampler"])
    assert len(report(folder).settings) == 4, "without by what is there is compared"
    (folder / "randomlce1" / "metrics.json").unlink()  # lacking in both: the means would be of unlike seeds
    with pytest.raises(InputError, match="lce has no run with seed 1 in the table"):
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


def test_a_report_ends_in_one_sentence_per_measure(sweep):
    """Which was shown to be better than which, by how much; or that none was, which is no equality."""
    folder, base, made = sweep
    found = report(folder)
    mean = {name: (made[name, 0] + made[name, 1]) / 2 for name in ("random", "stratified")}
    test = compare(dict(enumerate(mean["random"])), dict(enumerate(mean["stratified"])))
    expected = (
        f"nDCG@10 on 50 queries: stratified was shown to be better than random by {test.difference:.4f} "
        f"(95 % interval {test.low:.4f} to {test.high:.4f}, p = {test.p:.2g})."
    )
    assert found.conclusions() == [expected]
    assert found.markdown().endswith(f"* {expected}\n")
    write_run(folder / "hard", {"sampler": "hard", "loss": "kl"}, 0, {"after": {"nDCG@10": mean["random"]}})
    (sentence,) = report(folder).conclusions()
    assert sentence.count("shown to be better") == 1 and sentence.count(" by ") == 2, "than each of two"
    assert sentence.endswith("; no difference was shown in the other pair.")


def test_each_measure_has_its_own_sentence_corrected_over_the_pairs(tmp_path):
    """AP orders the settings otherwise than the main measure; p is Holm's of three t-tests."""
    rng = np.random.default_rng(3)
    base, noise = rng.uniform(0.2, 0.6, 40), {name: rng.normal(0, 0.05, 40) for name in "abc"}
    better = {"a": (0.0, 0.03), "b": (0.0, 0.0), "c": (0.001, 0.06)}
    runs = {
        name: {m: base + gain + noise[name] for m, gain in zip(("AP", "P@5"), better[name], strict=True)}
        for name in "abc"
    }
    for name, values in runs.items():
        write_run(tmp_path / name, {"sampler": name}, 0, {"after": values})
    main, second = report(tmp_path).conclusions()
    tests = {
        (m, x, y): compare(*(dict(enumerate(runs[name][m])) for name in (x, y)))
        for m in ("AP", "P@5")
        for x, y in ("ab", "ac", "bc")
    }
    p = sorted(tests["P@5", x, y].p for x, y in ("ab", "ac", "bc"))
    assert main.startswith(
        "AP on 40 queries: no setting was shown to differ from another (3 pairs, least p = "
    )
    assert "does not show that they are equal" in main
    assert second.startswith("P@5 on 40 queries: c was shown to be better than a by ")
    assert f"p = {2 * p[1]:.2g}) and b by " in second, "twice the second, by Holm"
    assert f"p = {3 * p[0]:.2g}); no difference was shown in the other pair." in second


def test_settings_that_are_equal_on_every_query_are_asked_about(sweep):
    """A field that nobody reads gives the same run again; that is no equivalence with p = 0."""
    folder, base, made = sweep
    for seed in (0, 1):
        write_run(
            folder / f"hard{seed}",
            {"sampler": "hard", "loss": "kl"},
            seed,
            {"after": {"nDCG@10": made["random", seed]}},
        )
    found = report(folder)
    assert "all settings are equal" not in found.conclusions()[0]
    (note,) = [note for note in found.notes() if "equal on every query" in note]
    assert note in (
        "hard and random are equal on every query: is the setting used at all?",
        "random and hard are equal on every query: is the setting used at all?",
    )
    equal = next(row for row in found.pair_rows() if set(row[:2]) == {"random", "hard"})
    assert equal[-1] == "equal"
    assert "and" not in report(folder, by=["sampler"]).pair_rows()[1][-1]
    head, *rows = found.pair_numbers()
    assert [np.isnan(row[-1]) for row in rows].count(True) == 1, "in pairs.csv too"


def test_no_p_in_the_table_of_pairs_is_0(sweep):
    """What no test tells from 0 is given as below what is told apart, as everywhere."""
    (pair,) = (found := report(sweep[0])).pairs
    least = dataclasses.replace(pair, p_t=1e-300, p_equivalence=1e-300, p_randomisation=0.012)
    row = dataclasses.replace(found, pairs=[least]).pair_rows()[1]
    assert row[-3:] == ["< 1e-300", "0.012", "< 1e-300"]


def test_a_measure_in_which_nothing_differs_says_so(tmp_path):
    for name in ("random", "hard"):
        values = {"nDCG@10": [0.1, 0.4, 0.3], "AP": [0.1, 0.2, 0.25 if name == "hard" else 0.3]}
        write_run(tmp_path / name, {"sampler": name}, 0, {"after": values})
    first, second = report(tmp_path).conclusions()
    assert first == "nDCG@10 on 3 queries: all settings are equal on every query."
    assert second.startswith("AP on 3 queries: no setting was shown to differ")


def test_the_printed_report_fits_a_terminal(tmp_path):
    """Long names of fields, four measures and seeds; the files keep the whole table."""
    rng = np.random.default_rng(0)
    measures = ("nDCG@10", "RR@10", "R@100", "AP")
    for i, (name, rate) in enumerate(
        (s, r) for s in ("stratified_score_ends", "hard") for r in (1e-05, 2e-05)
    ):
        for seed in (0, 1):
            values = {m: rng.uniform(size=12) for m in measures}
            write_run(
                tmp_path / f"{i}_{seed}",
                {
                    "sampler": name,
                    "distillation.trainer.learning_rate": rate,
                    "loss.losses.kl.teacher_temperature": i,
                },
                seed,
                {"before": values, "after": values},
            )
    (tmp_path / "1_1" / "metrics.json").unlink()
    found = report(tmp_path)
    text = printed(found)
    place = str(tmp_path / "1_1")
    assert all(len(line) <= 80 for line in text.splitlines() if place not in line)
    assert place in text, "a path is left whole"
    assert max(map(len, found.markdown().splitlines())) > 120
    for measure in measures:
        for setting in found.settings:
            assert f"{np.mean(setting.by_seed[measure]):.4f}" in text
    assert "sampler stratified_score_ends" in " ".join(text.split()), "the list says which number is which"


def test_paths_are_called_by_what_tells_them_apart(tmp_path):
    """A row was "7: data.path before", and each setting's label a path of two lines."""
    root = "/a/house/of/many/collections/which/have/long/names"
    for i, (name, sampler) in enumerate(product(("nfcorpus/2023", "scifact/2023"), ("random", "hard"))):
        values = {"nDCG@10": np.linspace(0, 0.1 * i, 12)}
        overrides = {"data.path": f"{root}/{name}", "sampler": sampler}
        overrides |= {"student.model": f"{root}/run{i % 2}/model"}
        made = {"torch": "1", "evaluated": name}
        write_run(tmp_path / f"{i}", overrides, 0, {"before": values, "after": values}, conditions=made)
    found = report(tmp_path)
    assert {one.names for one in found.settings} == {
        (name, *rest)
        for name in ("nfcorpus/2023", "scifact/2023")
        for rest in (("random", "run0/model"), ("hard", "run1/model"))
    }
    assert {row[0] for row in found.numbers()[1:]} == {f"{root}/nfcorpus/2023", f"{root}/scifact/2023"}
    for text in (printed(found), found.markdown(), found.latex()):
        assert root not in text and "nfcorpus/2023" in text
    assert "the .csv files have them whole" in printed(found)
    (tmp_path / "long").mkdir()
    for i in range(2):
        write_run(
            tmp_path / "long" / f"{i}",
            {"data.path": f"{root}/{'long' * 20}{i}"},
            0,
            {"before": values, "after": values},
        )
    text = printed(report(tmp_path / "long"))
    assert "3: before" in text.splitlines() and "data.path before" not in text
    assert f"1: data.path\n   {'long' * 20}0" in text


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["/a/b/c", "/a/d/c", "/a/e"], ["b/c", "d/c", "e"]),
        (["minilm", "/x/minilm", "-"], ["minilm", "x/minilm", "-"]),
        (["intfloat/e5-small", "run/1/model"], ["e5-small", "1/model"]),
        (["0.1", "0.2"], ["0.1", "0.2"]),
        (["[a/b,c/d]", "{title} / {text}", "1/2 x"], ["[a/b,c/d]", "{title} / {text}", "1/2 x"]),
    ],
)
def test_what_values_are_called(values, names):
    assert shown(values) == dict(zip(values, names, strict=True))


def test_a_table_is_split_by_columns_and_loses_none():
    rows = [["name", *(f"measure {i}" for i in range(12))], ["x", *(f"{i / 7:.4f}" for i in range(12))]]
    text = narrow(rows, 1)
    assert max(map(len, text.splitlines())) <= 80 and text.count("| name") == 3 == text.count("| x")
    assert all(f"| measure {i} " in text and f"| {i / 7:.4f} " in text for i in range(12))
    assert narrow([["a", "b"], ["1", "2"]], 1) == "| a | b |\n|---|---|\n| 1 | 2 |"
    assert bullets(["a " * 60]).splitlines()[1].startswith("  a")


@pytest.mark.slow
def test_the_command_prints_the_table_and_writes_every_form(sweep):
    folder, *_ = sweep
    done = start("report", [str(folder)], folder, plots=True)
    assert done.returncode == 0, done.stderr
    assert "| stratified" in done.stdout and "p (TOST)" in done.stdout
    names = {"report.md", "report.tex", "report.csv", "pairs.csv", "report.png"}
    assert names <= {file.name for file in folder.iterdir()}
    done = start("report", [str(folder), "--by", "sampler"], folder)
    assert done.returncode == 0 and (folder / "report_by_sampler.md").exists(), done.stderr
    done = start("report", [str(folder / "nowhere")], folder)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr


@pytest.mark.parametrize("margin", [0, -1, float("nan"), float("inf")])
def test_a_margin_is_above_0(tmp_path, margin):
    with pytest.raises(InputError, match=f"margin={margin}: it must be a difference of the measure, above 0"):
        report(tmp_path, margin=margin)


def test_a_full_disk_leaves_the_report_that_was_there(tmp_path, monkeypatch, capsys):
    for i, sampler in enumerate(("hard", "random")):
        write_run(tmp_path / str(i), {"sampler": sampler}, values={"after": {"AP": [0.5, 0.25 * i, 0.125]}})
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path)])
    main()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert {"report.md", "report.tex", "report.csv", "pairs.csv", "report.pdf"} < set(before)
    capsys.readouterr()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SystemExit) as ended:
        main()
    shown, said = capsys.readouterr()
    assert "| sampler |" in shown, "the table is printed all the same"
    assert (
        ended.value.code == 2
        and f"error: {tmp_path / 'report.md'}: no space is left on the disk: make room" in said
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("name", ["pairs.csv", "report.pdf"])
def test_a_report_replaces_reports_alone(tmp_path, monkeypatch, capsys, name):
    """And of these none that somebody has edited; the table is printed all the same."""
    for i, sampler in enumerate(("hard", "random")):
        write_run(tmp_path / str(i), {"sampler": sampler}, values={"after": {"AP": [0.5, 0.25 * i, 0.125]}})
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path)])

    def contents():
        return {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    (tmp_path / name).write_text("somebody's own")
    for why in ("no such command wrote it", "it was changed since it was written"):
        before = contents()
        with pytest.raises(SystemExit) as ended:
            main()
        shown, said = capsys.readouterr()
        assert ended.value.code == 2 and "| sampler |" in shown and contents() == before
        assert said.startswith(f"error: {tmp_path / name}: is there already, and {why}; move it away")
        (tmp_path / name).unlink()
        main()
        capsys.readouterr()
        assert (tmp_path / name).read_bytes() != b"somebody's own"
        (tmp_path / name).write_text("edited")


def test_a_report_replaces_an_earlier_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path)])
    for i, sampler in enumerate(("hard", "random", "stratified")):
        write_run(tmp_path / str(i), {"sampler": sampler}, values={"after": {"AP": [0.5, 0.25 * i, 0.125]}})
        if i:
            main()
    assert "stratified" in (tmp_path / "report.md").read_text()


def test_equality_is_said_of_the_settings_that_were_compared(tmp_path):
    """Those measured on other queries are held against none."""
    for name, values in {"random": [0.1, 0.4, 0.3], "hard": [0.1, 0.4, 0.3], "score": [0.9, 0.8]}.items():
        write_run(tmp_path / name, {"sampler": name}, 0, {"after": {"AP": values}})
    (said,) = report(tmp_path).conclusions()
    assert said == "AP on 3 queries: settings measured on the same queries are equal on every query."
    write_run(tmp_path / "other", {"sampler": "other"}, 0, {"after": {"AP": [0.1, 0.5, 0.2]}})
    (said,) = report(tmp_path).conclusions()
    assert "no setting was shown to differ from another (3 pairs measured on the same queries, least" in said


def batches(processes, each, accumulated=1):
    """As a run notes them in conditions.json."""
    parts = {"processes": processes, "accumulated": accumulated, "per device": each}
    return {"torch": "1", "batches": {"distillation": {"queries": processes * accumulated * each, **parts}}}


def test_runs_of_two_processes_are_no_second_runs_of_one(tmp_path, caplog):
    """Of equal settings and seed, but with batches of 10 queries against 5: both are in the table."""
    for processes, values in ((1, [0.1, 0.4, 0.3]), (2, [0.2, 0.5, 0.3])):
        for seed in (0, 1):
            place = tmp_path / f"{processes}_{seed}"
            after = {"after": {"AP": values}}
            write_run(place, {"sampler": "hard"}, seed, after, conditions=batches(processes, 5))
    found = report(tmp_path)
    assert found.swept == ("processes",) and not caplog.messages
    assert [row[:3] for row in found.rows()[1:]] == [
        ["2 processes", "2", "0.3333 ± 0.0000"],
        ["1 process", "2", "0.2667 ± 0.0000"],
    ]
    write_run(tmp_path / "old", {"sampler": "hard"}, 2, {"after": {"AP": [0.5, 0.5, 0.5]}})
    assert ["-", "1", "0.5000"] in [row[:3] for row in report(tmp_path).rows()], "it does not say"
    write_run(tmp_path / "random", {"sampler": "random"}, 0, after, conditions=batches(2, 5))
    assert report(tmp_path).swept == ("sampler", "processes")


@pytest.mark.parametrize("damaged", [[], {"a": 1}, {"a": {"queries": 3}}, {"a": {"queries": "x"}}])
def test_batches_that_are_damaged_are_named(damaged, tmp_path):
    values = {"after": {"AP": [0.1, 0.4]}}
    write_run(tmp_path / "a", {"sampler": "hard"}, values=values, conditions=batches(1, 5))
    write_run(tmp_path / "b", {"sampler": "hard"}, values=values, conditions={"batches": damaged})
    assert report(tmp_path).unfinished == {
        str(tmp_path / "b"): "conditions.json: damaged (batches); run it again"
    }


@pytest.mark.parametrize(
    ("second", "field", "expected"),
    [
        ((1, 10), "trainer.per_device_train_batch_size", "as it must be, since their batches are equal too"),
        (
            (1, 5, 2),
            "trainer.gradient_accumulation_steps",
            "as it must be, since their batches are equal too",
        ),
        ((2, 6), "trainer.per_device_train_batch_size", "is the setting used at all?"),
        ((2, 5), "loss.margin", "is the setting used at all?"),
        ((1, 10), "loss.margin", "is the setting used at all?"),
    ],
)
def test_equal_batches_give_equal_figures_and_no_question(second, field, expected, tmp_path):
    """2 x 5 queries beside others that give the same figures."""
    values = {"after": {"AP": [0.1, 0.4, 0.3]}}
    write_run(tmp_path / "a", {field: 1}, values=values, conditions=batches(2, 5))
    write_run(tmp_path / "b", {field: 2}, values=values, conditions=batches(*second))
    (note,) = (note for note in report(tmp_path).notes() if "equal on every query" in note)
    assert note.endswith(f" are equal on every query: {expected}")


def test_curves_of_dev_queries_are_of_the_steps_that_all_seeds_measured(tmp_path):
    values = {"after": {"nDCG@10": [0.1, 0.2, 0.4]}}
    for loss, rise in (("kl", 0.1), ("infonce", 0.0)):
        for seed in range(3):
            curve = {0: 0.2, 5: 0.2 + rise + seed / 100, 9: 0.3 + rise} | ({11: 0.9} if seed else {})
            write_run(tmp_path / f"{loss}{seed}", {"loss": loss}, seed, values, curve=curve)
    settings = {setting.values[0]: setting for setting in report(tmp_path).settings}
    kl = settings["kl"].curve["nDCG@10"]
    assert {step: sorted(found) for step, found in kl.items()} == {
        0: [0.2] * 3,
        5: pytest.approx([0.3, 0.31, 0.32]),
        9: [0.4] * 3,
    }
    ax = plot_curves(report(tmp_path))
    assert sorted(text.get_text() for text in ax.figure.legends[0].get_texts()) == [
        "infonce",
        "kl",
    ]
    line = next(line for line in ax.get_lines() if line.get_label() == "kl")
    np.testing.assert_allclose(line.get_xydata(), [[0, 0.2], [5, 0.31], [9, 0.4]])
    low, high = stats.t.interval(0.95, 2, 0.31, stats.sem([0.3, 0.31, 0.32]))
    band = ax.collections[[x.get_label() for x in ax.get_lines()].index("kl")].get_paths()[0].vertices
    at = band[band[:, 0] == 5][:, 1]
    assert (at.min(), at.max()) == pytest.approx((low, high))


def test_curves_are_averaged_over_what_else_was_swept(tmp_path):
    values = {"after": {"nDCG@10": [0.1, 0.2, 0.4]}}
    for i, (loss, sampler) in enumerate(product(("kl", "infonce"), ("random", "hard"))):
        write_run(
            tmp_path / str(i), {"loss": loss, "sampler": sampler}, 0, values, curve={3: 0.1 * i, 4 + i: 1}
        )
    found = {one.values[0]: one.curve["nDCG@10"] for one in report(tmp_path, by=["loss"]).settings}
    assert found == {"kl": {3: [pytest.approx(0.05)]}, "infonce": {3: [pytest.approx(0.25)]}}


def test_a_report_without_dev_measures_has_no_curves(sweep):
    assert plot_curves(report(sweep[0])) is None
    (sweep[0] / "random0" / "history.json").write_text('[{"eval_nDCG@10": "high", "step": 1}]')
    assert "history.json: damaged (measures of steps)" in str(report(sweep[0]).unfinished)


@pytest.mark.parametrize("of", ["folder", "file"])
def test_a_run_that_may_not_be_read_is_named(sweep, monkeypatch, of):
    """It was left out without a word, or ended the whole report."""
    folder, *_ = sweep
    place = min(x for x in folder.iterdir() if x.is_dir())
    scandir, digest = os.scandir, checksum

    def scan(path="."):
        if of == "folder" and str(path) == str(place):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    def read(path):
        if of == "file" and path.parent == place:
            raise PermissionError(13, "Permission denied", str(path))
        return digest(path)

    monkeypatch.setattr("os.scandir", scan)
    monkeypatch.setattr("rankdistill.runtime.folders.checksum", read)
    said = report(folder).unfinished[str(place)]
    assert "cannot be read" in said
