"""What ``rankdistill.commands.mine`` writes, and refuses to write."""

import errno
import logging
import os

import numpy as np
import pytest
from omegaconf import OmegaConf

from rankdistill.candidates import BM25, Dense, Random, mine
from rankdistill.commands.mine import as_run, new_file, run
from rankdistill.commands.score import run as score_run
from rankdistill.data import Collection, read_beir
from rankdistill.data.candidates import read_candidates
from rankdistill.errors import InputError
from rankdistill.evaluation import Run


class Fixed:
    """Finds the documents 3, 1 and nothing more for every query; gives no scores."""

    source, fingerprint = "dense", "fixed"

    def retrieve(self, collection, query_rows):
        return np.tile([3, 1, -1], (len(query_rows), 1))


def config(beir, output, retrievers, split="train"):
    return OmegaConf.create(
        {
            "data": {"_target_": "rankdistill.data.read_beir", "path": str(beir)},
            "output": str(output),
            "candidates": {"split": split, "limit": None, "retrievers": retrievers},
        }
    )


ONE = {"bm25": {"_target_": "rankdistill.candidates.BM25", "n": 6}}


def test_a_single_retriever_is_written_with_its_own_scores(beir, collection, tmp_path, capsys):
    run(config(beir, tmp_path / "new" / "r.trec.gz", ONE), None)
    written = Run.read(tmp_path / "new" / "r.trec.gz")
    assert written.name == "bm25" and "Run bm25 of 16 queries" in capsys.readouterr().out
    rows, scores = BM25(6).ranked(collection, collection.query_rows("train"))
    for query, found, values in zip(collection.query_rows("train"), rows, scores, strict=True):
        expected = {
            collection.document_ids[r]: pytest.approx(float(s), rel=1e-6)
            for r, s in zip(found, values, strict=True)
            if r >= 0
        }
        assert dict(written.ranking[collection.query_ids[query]]) == expected


def test_dense_scores_are_cosines(collection, student_folder):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(student_folder, device="cpu")
    found = as_run(collection, {"dense": Dense(model, 4), "random": Random(3)}, np.array([5]))
    texts = dict(zip(collection.document_ids, collection.documents, strict=True))
    query = model.encode_query(collection.queries[5], normalize_embeddings=True)
    for document, score in found.ranking["q5"]:
        assert score == pytest.approx(
            float(query @ model.encode_document(texts[document], normalize_embeddings=True)), abs=1e-5
        )
    assert found.name == "dense" and len(found.ranking["q5"]) == 4


def test_several_are_fused_by_rank(collection):
    """1 / (60 + rank), summed: by hand."""
    bm25 = BM25(2).retrieve(collection, np.array([0]))[0]
    ids = collection.document_ids
    expected = {"d3": 1 / 61, "d1": 1 / 62}
    for rank, row in enumerate(bm25[bm25 >= 0], 1):
        expected[ids[row]] = expected.get(ids[row], 0) + 1 / (60 + rank)
    found = as_run(collection, {"fixed": Fixed(), "bm25": BM25(2), "drawn": Random(5)}, np.array([0]))
    assert dict(found.ranking["q0"]) == pytest.approx(expected) and found.name == "rrf60"
    alone = as_run(collection, {"fixed": Fixed()}, np.array([0]))
    assert alone.ranking["q0"] == [("d3", 1 / 61), ("d1", 1 / 62)] and alone.name == "rrf60"


def test_each_retrievers_run_is_written_into_a_folder(beir, collection, tmp_path, capsys):
    target = "rankdistill.candidates."
    retrievers = {
        "words": {"_target_": target + "BM25", "n": 6},
        "flat": {"_target_": target + "BM25", "n": 4, "b": 0.0},
        "drawn": {"_target_": target + "Random", "n": 4},
        "none": None,
    }
    run(config(beir, f"{tmp_path}/runs/", retrievers), None)
    assert sorted(file.name for file in (tmp_path / "runs").iterdir()) == ["flat.trec", "words.trec"]
    for name, retriever in {"words": BM25(6), "flat": BM25(4, b=0.0)}.items():
        written = Run.read(tmp_path / "runs" / f"{name}.trec")
        expected = as_run(collection, {name: retriever}, collection.query_rows("train"))
        assert written.ranking == {
            query: [(document, pytest.approx(score, rel=1e-6)) for document, score in ranked]
            for query, ranked in expected.ranking.items()
        }
        assert written.name == name
    said = capsys.readouterr().out
    assert "Run words of 16 queries" in said and "Run flat of 16 queries" in said
    with pytest.raises(InputError, match="words.trec: exists already"):
        run(config(beir, f"{tmp_path}/runs/", retrievers), None)
    run(config(beir, tmp_path / "c.arrow", retrievers), None)
    found = read_candidates(tmp_path / "c.arrow", read_beir(beir))
    assert list(found.ranks) == ["words", "flat", "drawn"]


@pytest.mark.parametrize("name", ["r.trec", "c.arrow"])
def test_nothing_found_is_an_error_and_no_file(name, beir, tmp_path, monkeypatch):
    monkeypatch.setattr(BM25, "ranked", lambda self, c, q: (np.full((len(q), 1), -1), np.zeros((len(q), 1))))
    with pytest.raises(InputError, match="candidates.retrievers: bm25 found nothing for any query"):
        run(config(beir, tmp_path / name, ONE), None)
    assert not list(tmp_path.iterdir())


def test_random_documents_are_no_run(collection):
    with pytest.raises(InputError, match="random documents have no rank, as a run must"):
        as_run(collection, {"random": Random(3)}, np.array([0]))


def test_queries_for_which_nothing_is_found_are_warned_of_each_time(caplog):
    found = Collection(
        "some",
        ["d0", "d1"],
        ["a cat", "a dog"],
        ["q0", "q1"],
        ["cat", "zebra"],
        {"train": {"q0": {"d0": 1}, "q1": {"d1": 1}}},
    )
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            mine(found, [BM25(2), Random(1)])
        assert [record.getMessage() for record in caplog.records] == [
            "bm25 finds nothing for 1 of 2 queries, such as 'q1': 'zebra'"
        ]


def test_what_cannot_be_an_output(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("nowhere")
    for path, message in (
        (tmp_path, "is a folder; name a file in it"),
        (tmp_path / "file", "exists already"),
        (tmp_path / "link", "exists already"),
        (tmp_path / "file" / "x.trec", "file is a file, not a folder"),
        (tmp_path / ("x" * 300 + ".arrow"), "cannot be written .File name too long"),
        ("/proc/x.arrow", "cannot be written to /proc"),
        ("/proc/new/x.arrow", "cannot be written to /proc"),
    ):
        with pytest.raises(InputError, match=f"output={path}: .*{message}"):
            new_file(str(path))
    assert new_file(str(tmp_path / "new" / "x.trec")) == tmp_path / "new" / "x.trec"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"], "what was tried is gone"


def test_scores_replace_no_file_beside_their_output(beir, tmp_path):
    """Not even the file that they are read from."""
    given = tmp_path / "train.scores.json"
    given.write_text('{"q0": {"d0": 1, "d1": 2}}')
    asked = config(beir, tmp_path / "train.jsonl", ONE)
    teacher = {"_target_": "rankdistill.teachers.FileTeacher", "path": str(given)}
    asked = OmegaConf.merge(asked, {"teacher": teacher, "format": "groups", "input": None})
    message = f"output={tmp_path}/train.jsonl: {given}, which is written beside it, exists already; delete"
    with pytest.raises(InputError, match=message):
        score_run(asked, None)
    assert given.read_text() == '{"q0": {"d0": 1, "d1": 2}}' and list(tmp_path.iterdir()) == [given]


@pytest.mark.parametrize("name", ["new/c.arrow", "new/c.trec"])
def test_an_output_that_cannot_be_written_after_all_is_named(beir, tmp_path, monkeypatch, name):
    """As of a disk that is full, or a folder that was taken away meanwhile."""

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    run(config(beir, tmp_path / "first.arrow", ONE), None)  # into the cache
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match=f"{name}: cannot be written .Read-only file system"):
        run(config(beir, tmp_path / name, ONE), None)
