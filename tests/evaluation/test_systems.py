"""Two models held against each other, as the command does it."""

import csv
import json
import shlex
import shutil

import numpy as np
import pytest
import torch
from ir_measures.__main__ import main_cli
from scipy import stats
from sentence_transformers import SentenceTransformer

from rankdistill.commands import evaluate
from rankdistill.commands.launch import compose
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.evaluation.significance import holm
from rankdistill.evaluation.systems import short_names
from rankdistill.runtime.folders import RunFolder


def run(overrides, folder):
    config = compose(*overrides, name="evaluate")
    with RunFolder(folder, config) as place:
        return evaluate.run(config, place)


@pytest.fixture
def two(student_folder, tmp_path):
    """Students of two runs: the tiny one, and the same with other weights of words."""
    for name in ("first", "second"):
        student = SentenceTransformer(student_folder, device="cpu")
        if name == "second":
            words = student.transformers_model.get_input_embeddings().weight
            words.data += torch.randn(words.shape, generator=torch.Generator().manual_seed(0)) * 0.1
        student.save_pretrained(str(tmp_path / name / "model"), create_model_card=False)
    return [tmp_path / name / "model" for name in ("first", "second")]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_the_model_is_named_whose_texts_are_cut(two, out, beir, collection, cross_encoder_folder, caplog):
    """A token a word, and two special ones: who reads so was not said."""
    lengths = [len(text.split()) + 2 for text in collection.documents]
    longer = sum(n > 12 for n in lengths)
    models = [*map(str, two), cross_encoder_folder]
    with caplog.at_level("INFO"):
        run(["data=beir", f"data.path={beir}", f"model=[{','.join(models)}]", "max_length=12"], out)
    for name in ("first/model", "second/model"):
        assert f"read by {name}: {longer} of 60 documents (" in caplog.text
    assert "read by cross_encoder: " in caplog.text and " measured pairs (" in caplog.text
    assert caplog.text.count(" of 60 documents (") == 2, "each line once"


def test_two_models_are_compared_by_the_command(two, out, beir, collection, capsys):
    measures = ["nDCG@10", "RR@10", "AP", "P@3"]
    given = [f"model=[{two[0]},{two[1]}]", f"evaluator.measures=[{','.join(measures)}]"]
    run(["data=beir", f"data.path={beir}", *given], out)
    expected = [
        Evaluator(measures).evaluate(SentenceTransformer(str(model), device="cpu"), collection)
        for model in two
    ]
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics == {
        f"{n}/model": {**e.mean, "queries": len(e.per_query["nDCG@10"])}
        for n, e in zip(("first", "second"), expected, strict=True)
    }
    with open(out / "per_query.csv") as lines:
        rows = list(csv.DictReader(lines))
    with open(out / "comparison.csv") as lines:
        compared = {row["measure"]: row for row in csv.DictReader(lines)}
    p = {}
    for measure, found in compared.items():
        a, b = ([float(row[f"{measure} {n}/model"]) for row in rows] for n in ("first", "second"))
        assert a == [expected[0].per_query[measure][row["query_id"]] for row in rows]
        test = stats.ttest_rel(b, a)
        p[measure] = test.pvalue
        low, high = test.confidence_interval()
        values = [float(found[name]) for name in ("difference", "low", "high", "p")]
        assert values == pytest.approx([np.mean(b) - np.mean(a), low, high, test.pvalue])
        assert (found["first"], found["second"]) == ("first/model", "second/model")
    assert [float(found["p_holm"]) for found in compared.values()] == pytest.approx(
        holm(np.array([*p.values()]))
    )
    shown = capsys.readouterr().out
    assert "second/model - first/model:" in shown and "corrected (Holm) over 4 tests" in shown
    assert "Measured: all 8 queries of test." in shown
    assert max(map(len, shown.split("Measured")[0].splitlines())) <= 80
    assert sorted(path.name for path in out.iterdir() if path.name != ".lock") == [
        "comparison.csv",
        "conditions.json",
        "config.yaml",
        "metrics.json",
        "per_query.csv",
        "qrels.trec",
        "run.json",
        "run_1.trec.gz",
        "run_2.trec.gz",
    ]


def test_ir_measures_gives_the_same_figures_of_the_files(two, out, beir, capsys, caplog, monkeypatch):
    """By the command that is logged; of the eight judged queries five are measured."""
    with caplog.at_level("INFO"):
        measures = "evaluator.measures=[nDCG@10,NumRet,RR@10,R@100,AP,NumRel,NumQ]"
        run(["data=beir", f"data.path={beir}", "evaluator.limit=5", measures, f"model={two[1]}"], out)
    (line,) = [r.getMessage() for r in caplog.records if "the same figures" in r.getMessage()]
    words = shlex.split(line.partition("model: ")[2])
    assert words[0] == "ir_measures" and len((out / "qrels.trec").read_text().splitlines()) == 5
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", [*words, "-p", "-1"])
    main_cli()
    found = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    (expected,) = json.loads((out / "metrics.json").read_text()).values()
    own = {name: expected.pop(name) for name in ("queries", "NumQ", "NumRel", "NumRet")}
    assert own == {"queries": 5, "NumQ": 1, "NumRel": own["NumRel"], "NumRet": 60}, "means over the queries"
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, abs=1e-9)
    with caplog.at_level("INFO"):
        caplog.clear()
        measures = "evaluator.measures=[NumRet]"
        run(["data=beir", f"data.path={beir}", measures, f"model={two[1]}"], out / "counts")
    assert "the same figures" not in caplog.text, "ir_measures would print their sums"


def test_runs_and_models_mix_and_equal_ones_are_said(two, out, beir, capsys, monkeypatch):
    """A model's own run against it: equal on every query. Three systems make three pairs."""
    where = ["data=beir", f"data.path={beir}", "evaluator.limit=5"]
    run([*where, f"model={two[0]}"], out)
    assert "Measured: 5 of 8 queries of test, drawn at random (evaluator.limit=5)." in capsys.readouterr().out
    own = (out / "run.trec.gz").rename(out / "own.trec.gz")
    run([*where, f"model=[{two[0]},{two[1]}]", f"run={own}"], out / "three")
    shown = capsys.readouterr().out
    assert "own.trec.gz - first/model:" in shown and "corrected (Holm) over 12 tests" in shown
    assert shown.count("equal on every query: are they the same model?") == 1
    assert list(json.loads((out / "three" / "metrics.json").read_text())) == [
        "first/model",
        "second/model",
        "own.trec.gz",
    ]


def test_a_finished_evaluation_is_read_unless_the_model_has_changed(two, out, beir, capsys):
    where = ["data=beir", f"data.path={beir}", f"model={two[0]}"]
    value = run(where, out)
    shown, measured = capsys.readouterr().out, (out / "per_query.csv").stat().st_mtime_ns
    assert run(where, out) == value and capsys.readouterr().out.split("\n\n")[0] in shown
    with pytest.raises(InputError, match="holds a finished run with other settings"):
        run([*where, "evaluator.k=5"], out)
    shutil.copy(two[1] / "model.safetensors", two[0])
    with pytest.raises(InputError, match="finished with another model .changed since, in place"):
        run(where, out)
    assert (out / "per_query.csv").stat().st_mtime_ns == measured


def test_what_names_no_model_ends_in_one_line(out, two):
    for given, message in (
        ([], "give model=<folder or hub name>, run=<TREC run file>, or several as model="),
        (["model=5"], r"model=5: give a name, or several as model=\[a,b\]"),
        (["model=[a,5]"], "model: 5 is not a name"),
        ([f"model=[{two[0]},{two[0]}/]"], "is given twice; name each once"),
    ):
        with pytest.raises(InputError, match=message):
            run(given, out)


def test_names_are_the_shortest_endings_that_tell_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x/model", "b/x/model", "c"):
        (tmp_path / name).mkdir(parents=True)
    assert short_names(["a/x/model", "b/x/model", "c"]) == ["a/x/model", "b/x/model", "c"]
    assert short_names(["a/x/model"]) == ["x/model"], "the folder's name says which"
    assert short_names(["b/x/model/", "sentence-transformers/all-MiniLM-L6-v2"]) == [
        "x/model",
        "all-MiniLM-L6-v2",
    ]
    assert short_names(["one/same", "two/same", "same"]) == ["one/same", "two/same", "same"]
