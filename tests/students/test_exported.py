"""``rankdistill export``: what it refuses, and what it writes where its packages are installed."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from rankdistill.commands.export import run, shown
from rankdistill.commands.launch import compose
from rankdistill.errors import InputError
from rankdistill.runtime.folders import RunFolder
from rankdistill.students import exported


@pytest.fixture
def start(beir, student_folder, tmp_path):
    def start(*words):
        data = ("data=beir", f"data.path={beir}", "evaluator.measures=[nDCG@10]")
        config = compose(f"model={student_folder}", *data, *words, name="export")
        with RunFolder(tmp_path / "run", config) as folder:
            run(config, folder)
        return folder.path

    return start


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["formats=[onnx]"], "formats: onnx: sentence-transformers exports it by optimum-onnx, which needs"),
        (["formats=[tflite]"], "formats: 'tflite' is unknown; available: openvino, openvino_int8"),
        (["formats=[]"], "formats: there is none"),
    ],
)
def test_what_is_refused(start, words, said, tmp_path):
    with pytest.raises(InputError, match=said):
        start(*words)
    assert not (tmp_path / "run" / "torch").exists()


def test_lacking_packages_are_named(start, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(exported, "import_module", absent)
    with pytest.raises(InputError, match="openvino needs optimum-intel and openvino, the extra export"):
        start("formats=[openvino]")


def test_what_was_lost_is_beside_each_measure():
    metrics = {
        "torch": {"nDCG@10": 0.5, "MB": 90.0, "queries/s": 10.0},
        "openvino": {"nDCG@10": 0.4987, "MB": 23.04, "queries/s": 20.06},
    }
    assert shown(metrics).splitlines() == [
        "| | nDCG@10 | MB | queries/s |",
        "|---|---:|---:|---:|",
        "| torch | 0.5000 | 90.0 | 10.0 |",
        "| openvino | 0.4987 (-0.0013) | 23.0 | 20.1 |",
    ]


def test_exported_it_embeds_the_same(start, collection, student_folder, capsys):
    pytest.importorskip("optimum.intel", reason="needs the extra export")
    path = start()
    model, texts = SentenceTransformer(student_folder, device="cpu"), list(collection.documents)
    wanted = model.encode(texts, normalize_embeddings=True)
    for name, far in (("openvino", 0.02), ("openvino_int8", 0.1)):
        other = SentenceTransformer(str(path / name), device="cpu", backend="openvino")
        assert np.abs(other.encode(texts, normalize_embeddings=True) - wanted).max() < far, name
    metrics = json.loads((path / "metrics.json").read_text())
    assert list(metrics) == ["torch", "openvino", "openvino_int8"]
    assert all(values["MB"] > 0 and values["queries/s"] > 0 for values in metrics.values())
    printed = capsys.readouterr().out
    assert "| openvino_int8 |" in printed
    start()
    assert printed.endswith(capsys.readouterr().out), "what is there is shown again"
