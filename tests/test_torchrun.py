"""The commands in two processes, as torchrun starts them."""

import gzip
import json

import pytest
from commands import POOLS, start, two_processes

from rankdistill.evaluation import report


@pytest.mark.slow
def test_two_processes_end_as_one_does(tiny, tmp_path):
    """Under torchrun: mined, scored, trained and measured together, written by one, the same result."""
    one = start("train", [*tiny, f"hydra.run.dir={tmp_path / 'one'}", "trainer.bf16=false"], tmp_path)
    assert one.returncode == 0, one.stderr[-3000:]
    half = ["trainer.per_device_train_batch_size=2", "warmup.trainer.per_device_train_batch_size=2"]
    words = [
        "-m",
        "rankdistill.train",
        *tiny,
        *half,
        f"hydra.run.dir={tmp_path / 'two'}",
        "trainer.bf16=false",
    ]
    two = two_processes(words, tmp_path, RANKDISTILL_CACHE=str(tmp_path / "cache"))
    assert two.returncode == 0, two.stderr[-3000:]
    assert two.stdout.count("Results in") == 1
    scores = {}
    for name in ("one", "two"):
        with gzip.open(tmp_path / name / "run.trec.gz", "rt") as lines:
            rows = (line.split() for line in lines)
            scores[name] = {(query, document): float(score) for query, _, document, _, score, _ in rows}
    assert scores["one"] == pytest.approx(scores["two"], abs=1e-4)
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")]
    assert metrics[0]["teacher"] == pytest.approx(metrics[1]["teacher"])
    for name, processes in (("one", 1), ("two", 2)):
        batches = json.loads((tmp_path / name / "conditions.json").read_text())["batches"]
        parts = {"processes": processes, "accumulated": 1, "per device": 4 // processes}
        assert batches == dict.fromkeys(["warmup", "distillation"], {"queries": 4, **parts})
    card = (tmp_path / "two" / "model" / "README.md").read_text(encoding="utf-8")
    assert "* Batch of distillation: 4 queries (2 processes x 2)." in card
    found = report(tmp_path)
    assert "processes" in found.swept and len(found.settings) == 2
    if metrics[0]["after"] == metrics[1]["after"]:
        assert any("since their batches are equal too" in note for note in found.notes())
    assert not list((tmp_path / "cache" / "embeddings").glob("*.npy"))[1:]  # the trained student's are gone


@pytest.mark.slow
def test_two_processes_fine_tune_a_teacher(beir, tmp_path, student_folder, cross_encoder_folder):
    words = [
        *("-m", "rankdistill", "finetune_teacher", "data=beir", f"data.path={beir}", *POOLS),
        *(f"model={cross_encoder_folder}", "max_length=64", "negatives=4", "evaluation.split=test"),
        *(f"candidates.encoder={student_folder}", f"hydra.run.dir={tmp_path / 'teacher'}"),
    ]
    done = two_processes(words, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Use it: teacher.model=") == 1
