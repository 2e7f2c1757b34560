"""Scores through the commands: mined, written, converted, and distilled from a file."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from commands import POOLS, TRAINING, start

from rankdistill.commands.score import warn_of_others
from rankdistill.data import read_beir
from rankdistill.evaluation import Run
from rankdistill.scores import read_scores, write_scores


@pytest.fixture
def mined(beir, student_folder):
    return [
        "data=beir",
        f"data.path={beir}",
        f"student.model={student_folder}",
        "student.max_length=64",
        *POOLS,
    ]


@pytest.mark.slow
def test_candidates_and_scores_are_written_and_converted(mined, beir, student_folder, tmp_path):
    done = start("mine", [*mined, "output=new/candidates.arrow"], tmp_path)
    assert done.returncode == 0 and "Candidates(16 queries" in done.stdout, done.stderr[-2000:]
    again = start("mine", [*mined, "output=new/candidates.arrow"], tmp_path)
    assert again.returncode == 2 and "output=new/candidates.arrow: exists already" in again.stderr
    wrong = start("mine", [*mined, "output=candidates.csv"], tmp_path)
    assert wrong.returncode == 2 and "candidates are written to .arrow, a TREC run to .trec" in wrong.stderr
    done = start("mine", [*mined, "output=bm25.trec.gz", "candidates.limit=4"], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    ranking = Run.read(tmp_path / "bm25.trec.gz").ranking
    assert len(ranking) == 4 and all(1 / 61 <= found[0][1] <= 2 / 61 for found in ranking.values())

    teacher = ["teacher=dense", f"teacher.model={student_folder}"]
    given = [*mined, *teacher, "input=new/candidates.arrow", "output=scores.parquet"]
    done = start("score", given, tmp_path)
    assert done.returncode == 0 and "Scores of dense" in done.stdout, done.stderr[-2000:]
    collection = read_beir(beir)
    one = read_scores(tmp_path / "scores.parquet", collection)
    assert len(one) == 16 and one.teacher.startswith("dense")
    assert "mining candidates" not in done.stdout
    done = start("score", [*mined, *teacher, "output=scores.csv"], tmp_path)
    assert done.returncode == 0 and "reusing teacher scores" in done.stdout, done.stderr[-2000:]
    two = read_scores(tmp_path / "scores.csv", collection)
    assert np.array_equal(one.scores, two.scores)
    assert np.array_equal(one.candidates.document_rows, two.candidates.document_rows)

    asked = [*mined, *teacher, "input=bm25.trec.gz", "candidates.limit=2", "output=some.csv"]
    refused = start("score", asked, tmp_path)
    assert refused.returncode == 2 and "candidates.limit: input brings its own queries" in refused.stderr
    done = start("score", [*mined, *teacher, "input=bm25.trec.gz", "output=reranked.trec"], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    reranked = Run.read(tmp_path / "reranked.trec").ranking
    assert {query: {d for d, _ in found} for query, found in reranked.items()}.items() <= {
        query: {d for d, _ in found} for query, found in ranking.items()
    }.items()
    assert reranked

    convert = ["teacher=file", "teacher.path=scores.csv", "output=scores.jsonl", "format=bge"]
    done = start("score", [*mined, *convert], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 16


@pytest.mark.slow
@pytest.mark.parametrize("measured", [True, False])
def test_a_file_of_scores_is_distilled(measured, mined, beir, table, tmp_path):
    """With test queries in the file the teacher is measured; without, its row is left out."""
    collection = read_beir(beir)
    write_scores(table, tmp_path / "scores.csv")
    if measured:
        with open(tmp_path / "scores.csv", "a") as out:
            for i, query in enumerate(collection.qrels["test"]):
                relevant = next(iter(collection.qrels["test"][query]))
                out.write(f"{query},{relevant},{i}\n{query},d0,{i - 1}\n")
    arguments = [
        *[x for x in mined if "retrievers" not in x],
        *TRAINING,
        *(
            "teacher=file",
            "teacher.path=scores.csv",
            "candidates.limit=12",
            f"hydra.run.dir={tmp_path / 'run'}",
        ),
    ]
    done = start("train", arguments, tmp_path, plots=True)
    assert done.returncode == 0, done.stderr[-3000:]
    log = (tmp_path / "run" / "train.log").read_text()
    assert "mining candidates" not in log and "distillation: 12 groups" in log
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    if measured:
        assert metrics["teacher"] == {"nDCG@10": 1, "RR@10": 1, "R@100": 1, "AP": 1, "queries": 8}
    else:
        assert list(metrics) == ["before", "after"]
        assert "scores.csv: no scores of the 8 queries of test; the teacher isn't measured" in log
    assert "FileTeacher" in (tmp_path / "run" / "model" / "README.md").read_text()
    assert (tmp_path / "run" / "plots" / "score_distribution.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["teacher.path=nowhere.csv"], "nowhere.csv: no such file"),
        (["teacher.path=bad.csv"], "bad.csv:2: expected query_id, document_id, score"),
        (
            ["teacher.path=bad.csv", "teacher.format=json"],
            "bad.csv: malformed JSON, or cut short",
        ),
        (["teacher.path=bad.jsonl"], "bad.jsonl: its name doesn't say the format"),
        (["teacher.path=nobody/nothing"], "nobody/nothing: no such file, and no dataset"),
        (["teacher.path=bad.csv", "teacher.options={by:rank}"], "by: not an option of csv"),
    ],
)
def test_bad_files_end_in_one_line(arguments, message, mined, tmp_path):
    (tmp_path / "bad.csv").write_text("q0,d0,1\nq0,d1\n")
    done = start("train", [*mined, "teacher=file", *arguments], tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and last.startswith("error: ") and message in last
    assert "Traceback" not in done.stderr


def test_queries_of_other_splits_are_said_to_be_left_out(caplog):
    counts = {"train": 30, "dev": 0, "test": 1500}
    collection = SimpleNamespace(qrels=counts)
    warn_of_others(
        SimpleNamespace(path="all.csv", covers=lambda _, split: counts[split]), collection, "train"
    )
    warn_of_others(SimpleNamespace(path="train.csv", covers=lambda *_: 0), collection, "train")
    said = "scores of 1,500 of test are not written: candidates.split=train; each split is a file of its own"
    assert caplog.messages == [f"all.csv: {said}"]
