"""What ``rankdistill quantise`` writes, measures and refuses."""

import json
import shutil
from pathlib import Path

import faiss
import numpy as np
import pytest
from conftest import at_most
from sentence_transformers import SentenceTransformer

from rankdistill.commands.explain import explain
from rankdistill.commands.launch import compose
from rankdistill.commands.quantise import found_of, run
from rankdistill.errors import InputError
from rankdistill.runtime.folders import RunFolder

SMALL = ["parts=4", "bits=3", "evaluator.measures=[nDCG@10]", "quantisers.jpq.epochs=1"]


@pytest.fixture
def quantise(beir, student_folder, tmp_path):
    def start(*words):
        words = ("data=beir", f"data.path={beir}", f"model={student_folder}", *SMALL, *words)
        config = compose(*words, name="quantise")
        with RunFolder(tmp_path / "run", config) as folder:
            run(config, folder)
        return folder.path

    return start


def test_each_index_is_found_in_the_folder_and_measured(quantise, collection, student_folder, capsys):
    folder = quantise()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert list(metrics) == ["exact", "pq", "opq", "distill_vq", "jpq"]
    assert [values["bytes"] for values in metrics.values()] == [64, 2, 2, 2, 2]  # 16 float32; 4 x 3 bits
    assert metrics["exact"]["best@10"] == metrics["exact"]["best@100"] == 1
    model = SentenceTransformer(student_folder, device="cpu")
    queries = [collection.queries[row] for row in collection.query_rows("test")]
    q, d = (model.encode(x, normalize_embeddings=True) for x in (queries, list(collection.documents)))
    exact = np.argsort(-q @ d.T, axis=1)[:, :10]
    for name in ("pq", "opq", "distill_vq", "jpq"):
        index = faiss.read_index(str(folder / f"{name}.faiss"))
        _, rows = index.search(q, 10)
        expected = np.mean([len({*a} & {*b}) / 10 for a, b in zip(exact, rows, strict=True)])
        assert metrics[name]["best@10"] == pytest.approx(expected, abs=0.03), name  # ties, and bf16
        assert metrics[name]["best@100"] == 1, "there are 60 documents"
    assert json.loads((folder / "document_ids.json").read_text()) == list(collection.document_ids)
    printed = capsys.readouterr().out
    assert "distill_vq, 2 bytes" in printed and "all 8 queries of test" in printed
    quantise()
    assert capsys.readouterr().out == printed, "what is there is shown again"


def test_an_index_that_the_disk_takes_in_part_is_named_and_not_kept(quantise, tmp_path):
    """The last of its bytes are written as the file is closed, which FAISS does without looking."""
    whole = (quantise() / "opq.faiss").stat().st_size
    shutil.rmtree(tmp_path / "run")
    with at_most(whole - 1), pytest.raises(OSError) as caught:
        quantise()
    name = caught.value.filename
    assert explain(caught.value).startswith(f"{name}: a file would be larger") and name.endswith(".faiss")
    assert not (tmp_path / "run" / "conditions.json").exists() and not Path(name).exists()


def test_of_both_shares_the_mean_is_taken():
    assert found_of(np.array([[1, 2], [3, 4]]), np.array([[2, 9], [4, 3]])) == 0.75


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["parts=5"], "parts=5: the model's 16 dimensions"),
        (["training_split=test"], "training_split=test: it is what is measured"),
        (["evaluator.index=HNSW32"], "evaluator.index: the indexes that are measured are the quantisers'"),
        (["quantisers={pq:null,opq:null,distill_vq:null,jpq:null}"], "quantisers: there is none"),
        (["quantisers.jpq.cut=0"], "quantisers.jpq.cut=0: it must be 1 or more"),
        (["model=null"], "model=None: it must be a text"),
    ],
)
def test_what_is_refused(quantise, words, said, tmp_path):
    with pytest.raises(InputError, match=said):
        quantise(*words)
    assert not list(tmp_path.glob("run/*.faiss")) and not (tmp_path / "run" / "conditions.json").exists()


def test_a_cross_encoder_has_no_vectors(quantise, cross_encoder_folder):
    with pytest.raises(InputError, match="it makes no single vector of a document"):
        quantise(f"model={cross_encoder_folder}")
