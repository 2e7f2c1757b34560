import numpy as np
import pytest
import torch
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from rankdistill.errors import InputError
from rankdistill.teachers import LateInteractionTeacher, late_interaction

PROMPTS = {"query": "w1 ", "document": "w2 "}


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr("rankdistill.runtime.hardware.has_bf16", lambda: False)


@pytest.fixture(scope="module")
def folder(student_folder, tmp_path_factory):
    """A random late-interaction model: markers, documents of at most 12 tokens, w9 doesn't count."""
    torch.manual_seed(3)
    modules = [
        Transformer(student_folder),
        Dense(
            16, 8, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings"
        ),
        MultiVectorMask(skiplist_words=["w9"]),
        Normalize("token_embeddings"),
    ]
    modules[0].document_length = 12
    path = str(tmp_path_factory.mktemp("late") / "model")
    MultiVectorEncoder(modules=modules, prompts=PROMPTS, device="cpu").save_pretrained(
        path, create_model_card=False
    )
    return path


def by_hand(folder, query, document):
    """MaxSim of one pair by loops, from the modules' own output for one text at a time."""
    model = MultiVectorEncoder(folder, device="cpu").eval()
    vectors = []
    for kind, text in (("query", query), ("document", document)):
        ids = model.tokenizer(
            PROMPTS[kind] + text, truncation=True, max_length=12 if kind == "document" else 64
        )
        ids = ids["input_ids"]
        with torch.no_grad():
            hidden = model.transformers_model(torch.tensor([ids])).last_hidden_state[0]
            projected = model[1].linear(hidden)
        skipped = model.tokenizer.convert_tokens_to_ids("w9") if kind == "document" else None
        kept = [v for v, number in zip(projected, ids, strict=True) if number != skipped]
        vectors.append([(v / v.norm()).numpy() for v in kept])
    return sum(max(float(q @ d) for d in vectors[1]) for q in vectors[0])


QUERIES = ["w3 w4", "w3 w4", "w5", "w5 w6 w7 w8 w9 w9"]
DOCUMENTS = ["w3 w9 w10", "w11 w12 w13 w14 w15 " * 5, "w9", "w5 w9 w8"]


def test_scores_are_maxsim(folder):
    scores = LateInteractionTeacher(folder, device="cpu").score(QUERIES, DOCUMENTS)
    assert scores.shape == (4,) and scores.dtype == np.float32
    expected = [by_hand(folder, *pair) for pair in zip(QUERIES, DOCUMENTS, strict=True)]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_another_encoders_tokens_are_compared_as_they_are(student_folder):
    """Without the random projection that sentence-transformers adds to it."""
    scores = LateInteractionTeacher(student_folder, device="cpu").score(QUERIES, DOCUMENTS)
    plain = SentenceTransformer(student_folder, device="cpu")

    def tokens(text):
        found = plain.encode(text, output_value="token_embeddings")
        return torch.nn.functional.normalize(found, dim=1)

    expected = [
        (tokens(q) @ tokens(d).T).max(dim=1).values.sum().item()
        for q, d in zip(QUERIES, DOCUMENTS, strict=True)
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    again = LateInteractionTeacher(student_folder, device="cpu")
    assert np.array_equal(again.score(QUERIES, DOCUMENTS), scores)
    assert again.fingerprint == LateInteractionTeacher(student_folder, device="cpu").fingerprint


def test_a_text_is_encoded_once(folder, monkeypatch):
    """Also across blocks: a document is the candidate of many queries."""
    teacher, asked = LateInteractionTeacher(folder, device="cpu"), []
    encode = teacher.model.encode

    def noted(inputs, **options):
        asked.extend(inputs)
        return encode(inputs, **options)

    monkeypatch.setattr(teacher.model, "encode", noted)
    first = teacher.score(["w3", "w3"], ["w4", "w5"])
    assert teacher.score(["w6", "w3"], ["w4", "w5"])[1] == first[1]
    assert asked == ["w3", "w4", "w5", "w6"]


def test_what_is_kept_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(late_interaction, "KEPT_NUMBERS", 100)
    teacher = LateInteractionTeacher(folder, device="cpu")
    scores = [teacher.score([f"w{i}"], [f"w{i + 1}"])[0] for i in range(20)]
    assert len(teacher._kept) <= 5
    assert teacher.score(["w0"], ["w1"])[0] == pytest.approx(scores[0], rel=1e-5)


def test_max_length_shortens_and_never_lengthens(folder):
    long = "w5 w6 w7 w8 w10 w11 w12 w13 w14 w15 w16 w17"
    models = {n: LateInteractionTeacher(folder, n, device="cpu") for n in (None, 6, 40)}
    scores = {n: model.score(["w3"], [long])[0] for n, model in models.items()}
    assert scores[None] == scores[40]
    assert scores[6] == models[None].score(["w3"], ["w5 w6 w7"])[0] != scores[None]
    assert models[6].fingerprint != models[None].fingerprint


@pytest.mark.parametrize("name", ["no/such-model", "/no/such/folder"])
def test_a_model_that_cannot_be_had_is_named(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=f"model '{name}' cannot be loaded"):
        LateInteractionTeacher(name)
