import shutil

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_tokenizer
from sentence_transformers import CrossEncoder
from transformers import BertForSequenceClassification

from rankdistill.errors import InputError
from rankdistill.teachers import CrossEncoderTeacher

BF16 = "rankdistill.students.cross_encoder.has_bf16"


def write_model(folder, seed=1, labels=1, spread=1.0):
    """A random cross-encoder, its weights scaled by ``spread`` so that its logits differ."""
    torch.manual_seed(seed)
    config = tiny_config()
    config.num_labels = labels
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(spread)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("wide") / "model", spread=10.0)


@pytest.fixture
def pairs(collection):
    return [(query, document) for query in collection.queries[:6] for document in collection.documents[:10]]


@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, 0.4)])
def test_scores_are_the_logits_of_the_cross_encoder(folder, pairs, monkeypatch, bf16, tolerance):
    """In float32 closely; bf16's rounding is well below the spread of the scores."""
    monkeypatch.setattr(BF16, lambda: bf16)
    reference = CrossEncoder(folder, num_labels=1, max_length=64, device="cpu")
    logits = reference.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    scores = CrossEncoderTeacher(folder, max_length=64, device="cpu").score(*zip(*pairs, strict=True))
    assert scores.shape == (60,) and scores.dtype == np.float32
    assert np.abs(scores - logits).max() < tolerance * logits.std()
    assert not np.allclose(scores, 1 / (1 + np.exp(-logits)), atol=0.05), "logits, not probabilities"


@pytest.mark.parametrize("saved", [torch.nn.Sigmoid(), torch.nn.Tanh(), torch.nn.Identity()], ids=str)
def test_scores_are_logits_whatever_activation_is_saved(folder, tmp_path, pairs, monkeypatch, saved):
    monkeypatch.setattr(BF16, lambda: False)
    model = CrossEncoder(folder, device="cpu", activation_fn=saved)
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    loaded = CrossEncoder(str(tmp_path / "model"), device="cpu")
    logits = loaded.predict(pairs, activation_fn=torch.nn.Identity())
    scores = CrossEncoderTeacher(str(tmp_path / "model"), device="cpu").score(*zip(*pairs, strict=True))
    np.testing.assert_allclose(scores, logits, atol=1e-4)
    activated = saved(torch.from_numpy(scores)).numpy()
    np.testing.assert_allclose(loaded.predict(pairs), activated, atol=1e-4)


def test_queries_and_documents_must_be_pairs(folder):
    with pytest.raises(ValueError):
        CrossEncoderTeacher(folder, device="cpu").score(["a", "b"], ["a"])


def test_max_length_cuts_documents(folder):
    teacher = CrossEncoderTeacher(folder, max_length=8, device="cpu")
    assert teacher.score(["w1"], ["w2 " * 5 + "w3 w4"]) == teacher.score(["w1"], ["w2 " * 5 + "w5 w6"])


def test_the_fingerprint_is_of_the_weights_and_the_length(folder, tmp_path, monkeypatch):
    def made(model, max_length=64):
        return CrossEncoderTeacher(model, max_length, device="cpu").fingerprint

    copy = shutil.copytree(folder, tmp_path / "copy")
    other = write_model(tmp_path / "other", seed=2)
    assert made(folder) == made(str(copy))
    assert len({made(folder), made(folder, 32), made(other)}) == 3
    monkeypatch.setattr(BF16, lambda: False)
    rounded_not = made(folder)
    monkeypatch.setattr(BF16, lambda: True)
    assert made(folder) == rounded_not, "a table scored on one machine can be found on another"


def test_the_fingerprint_is_of_tokenizer_and_attention_too(folder, tmp_path):
    """Equal weights under another tokenizer or number of heads once took the other model's table."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    found = {CrossEncoderTeacher(folder, device="cpu").fingerprint}
    for file, old, new in (
        ("tokenizer.json", '"w7"', '"w07"'),
        ("config.json", '"num_attention_heads": 2', '"num_attention_heads": 4'),
    ):
        text = (copy / file).read_text()
        assert old in text
        (copy / file).write_text(text.replace(old, new))
        found.add(CrossEncoderTeacher(str(copy), device="cpu").fingerprint)
    assert len(found) == 3


def test_a_prompt_of_the_models_own_goes_before_every_query(folder, tmp_path, pairs, monkeypatch):
    monkeypatch.setattr(BF16, lambda: False)
    model = CrossEncoder(folder, prompts={"ask": "w1 w2 w3: "}, default_prompt_name="ask", device="cpu")
    model.save_pretrained(str(tmp_path / "asks"))
    teacher = CrossEncoderTeacher(str(tmp_path / "asks"), device="cpu")
    plain = CrossEncoderTeacher(folder, device="cpu")
    assert teacher.fingerprint != plain.fingerprint
    asked = model.predict(pairs, activation_fn=torch.nn.Identity())
    assert teacher.score(*zip(*pairs, strict=True)) == pytest.approx(asked, abs=1e-4)
    assert np.abs(plain.score(*zip(*pairs, strict=True)) - asked).max() > 0.1


def test_a_length_beyond_the_models_positions_is_cut_to_them(folder, caplog):
    teacher = CrossEncoderTeacher(folder, max_length=1000, device="cpu")
    assert f"max_length=1000: {folder} reads at most 64 tokens" in caplog.text
    assert np.isfinite(teacher.score(["w1"], ["w2 " * 500])).all()


@pytest.mark.parametrize("name", ["no/such-model", "/no/such/folder"])
def test_a_model_that_cannot_be_had_is_named(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=f"model '{name}' cannot be loaded"):
        CrossEncoderTeacher(name)


def test_no_pickle_is_read(tmp_path):
    """Weights in safetensors only: a pickle runs code."""
    folder = write_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "kept")
    torch.save({}, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        CrossEncoderTeacher(folder)


def test_a_model_of_several_labels_raises(tmp_path):
    with pytest.raises(InputError, match="several labels"):
        CrossEncoderTeacher(write_model(tmp_path / "model", labels=3))


def test_damaged_weights_are_named(tmp_path):
    folder = write_model(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be loaded"):
        CrossEncoderTeacher(folder)


def test_a_model_without_a_scoring_head_raises(student_folder):
    """A random head scores at random, and differently every time."""
    with pytest.raises(InputError):
        CrossEncoderTeacher(student_folder, device="cpu")
