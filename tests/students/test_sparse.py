"""Sparse students: made of a transformer, trained as they are encoded, measured through an inverted index."""

import json

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_tokenizer
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from transformers import BertForMaskedLM

from rankdistill.errors import InputError
from rankdistill.losses import FLOPS, InfoNCE, KLDivergence, WeightedSum
from rankdistill.retrieval import embed_sparse
from rankdistill.samplers import RandomSampler
from rankdistill.students import (
    document_frequency_weights,
    fingerprint_of,
    load_student,
    sparse_student,
)
from rankdistill.students.lengths import cut_texts
from rankdistill.students.sparse import highest, idf_weights
from rankdistill.training import DistillationTrainer, training_arguments

LOSSES = {"kl": KLDivergence(), "nce": InfoNCE(in_batch=True), "flops": FLOPS(0.01, 0.01, 2)}


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr("rankdistill.runtime.hardware.has_bf16", lambda: False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, student_folder):
    """Students of every make: a fitted head, static queries, a masked-language head, another pooling."""
    root = tmp_path_factory.mktemp("sparse")
    torch.manual_seed(0)
    BertForMaskedLM(tiny_config()).save_pretrained(root / "bert")
    tiny_tokenizer().save_pretrained(root / "bert")
    made = {
        "fitted": sparse_student(student_folder),
        "static": sparse_student(student_folder, queries="static"),
        "mlm": sparse_student(str(root / "bert")),
    }
    head = Transformer(str(root / "bert"), transformer_task="fill-mask")
    made["sum"] = SparseEncoder(modules=[head, SpladePooling("sum")], device="cpu", max_active_dims=7)
    made["cosine"] = sparse_student(student_folder)
    made["cosine"].similarity_fn_name = "cosine"
    for name, student in made.items():
        student.save_pretrained(str(root / name), create_model_card=False)
    return root


MAKES = ["fitted", "static", "mlm", "sum", "cosine"]


def trainer_of(student, table, folder, **fields):
    defaults = {"per_device_train_batch_size": 4, "bf16": False, "disable_tqdm": True, "learning_rate": 0.01}
    loss = WeightedSum(LOSSES, dict.fromkeys(LOSSES, 1.0))
    arguments = training_arguments(str(folder), **{**defaults, **fields})
    return DistillationTrainer(student, table, RandomSampler(1, 3), loss, arguments)


def state_of(model):
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def test_a_fitted_head_is_trained_as_it_is_made(student_folder, table, tmp_path):
    student = sparse_student(student_folder, max_length=14)
    trainer_of(student, table, tmp_path, max_steps=1).train()
    assert all(torch.isfinite(weight).all() for weight in student.parameters())


def test_a_fitted_head_makes_each_token_activate_itself(student_folder):
    student = sparse_student(student_folder)
    words = [f"w{i}" for i in range(0, 200, 7)]
    ids = [student.tokenizer.get_vocab()[word] for word in words]
    found = student.encode(words, convert_to_sparse_tensor=False)
    own = found.gather(1, torch.tensor(ids)[:, None])[:, 0]
    active = (found > 0).float().mean()
    assert (own > 0).float().mean() > 5 * active and own.median() > found.max(dim=1).values.median() / 2
    assert torch.equal(found, sparse_student(student_folder).encode(words, convert_to_sparse_tensor=False))


@pytest.mark.parametrize("make", MAKES)
def test_the_step_is_encode_and_a_gradient_reaches_every_weight(make, folders, table, tmp_path):
    student = load_student(str(folders / make), max_length=14)
    assert type(student) is SparseEncoder
    trainer = trainer_of(student, table, tmp_path)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(6)])
    ranker = trainer.model.student.train()
    queries, documents = ranker.vectors(batch["inputs"]["student"])
    for kind, vectors, rows in (
        ("query", queries, batch["query_rows"]),
        ("document", documents, batch["document_rows"]),
    ):
        texts = table.collection.queries if kind == "query" else table.collection.documents
        some = [texts[row] for row in rows.tolist()]
        encode = student.encode_query if kind == "query" else student.encode_document
        expected = encode(some, convert_to_sparse_tensor=False)
        if make == "cosine":
            expected = torch.nn.functional.normalize(expected, dim=1)
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        np.testing.assert_allclose(vectors.detach(), expected, atol=1e-5)
        np.testing.assert_allclose(embed_sparse(student, kind, some).toarray(), expected, atol=1e-5)
        alone = embed_sparse(student, kind, some[:1]).toarray()
        np.testing.assert_allclose(alone[0], expected[0], atol=1e-5)
    (queries.sum() + documents.square().sum()).backward()
    idle = [
        name for name, weight in ranker.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    # softmax does not feel a shift of all keys; MiniLM's kin have a pooler that nothing reads
    assert [name for name in idle if "key.bias" not in name and "pooler" not in name] == []


def test_the_scale_is_1_of_a_dot_product(folders, table, tmp_path):
    for make, scale in (("fitted", 1.0), ("cosine", 20.0)):
        student = load_student(str(folders / make), max_length=14)
        assert trainer_of(student, table, tmp_path).model.student.scale == scale


def test_static_queries_are_weights_of_their_words(folders, student_folder, tmp_path):
    file = tmp_path / "idf.json"
    file.write_text(json.dumps({"w1": 2.0, "w2": 0.5, "nowhere": 9.0}))
    student = sparse_student(student_folder, queries="static", idf=str(file))
    (found,) = student.encode_query(["w1 w2 w1 w3"], convert_to_sparse_tensor=False)
    vocabulary = student.tokenizer.get_vocab()
    assert {i: x for i, x in enumerate(found.tolist()) if x} == {vocabulary["w1"]: 2.0, vocabulary["w2"]: 0.5}
    zipf = idf_weights(student.tokenizer, 205, None).numpy()
    shares = 1 / np.arange(1, 206) / (1 / np.arange(1, 206)).sum()
    np.testing.assert_allclose(zipf[5:], np.log(1 / shares)[5:], rtol=1e-6)
    assert not zipf[:5].any(), "special tokens"


def test_document_frequency_weights_are_bm25s(student_folder, collection):
    found = document_frequency_weights(student_folder, collection)
    row = tiny_tokenizer().get_vocab()["w7"]
    n, D = sum("w7" in text.split() for text in collection.documents), len(collection.documents)
    assert found[row] == pytest.approx(np.log(1 + (D - n + 0.5) / (n + 0.5)))


@pytest.mark.parametrize("make", ["fitted", "static"])
def test_what_is_cut_is_counted(make, folders, collection):
    found = cut_texts(load_student(str(folders / make), max_length=9), collection)["documents"]
    assert found["longer"] == sum(len(text.split()) + 2 > 9 for text in collection.documents)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"queries": "none"}, "student.queries='none': it must be 'encoder' or 'static'"),
        ({"queries": "static", "idf": "nowhere.json"}, "student.idf=nowhere.json: it must be a JSON file"),
        ({"queries": "static", "idf": [1.0]}, "student.idf: it must be 205 finite numbers"),
        ({"layers": 9}, "the model has 2 layers"),
    ],
)
def test_what_cannot_be_made_is_named(fields, message, student_folder):
    with pytest.raises(InputError, match=message):
        sparse_student(student_folder, **fields)


def test_a_sparse_folder_is_taken_as_it_is(folders):
    first = load_student(str(folders / "static"))
    assert fingerprint_of(sparse_student(str(folders / "static"))) == fingerprint_of(first)
    first.max_active_dims = 3
    assert fingerprint_of(first) != fingerprint_of(load_student(str(folders / "static")))


def test_a_gradient_has_the_same_bytes_every_time():
    """Many of the vocabulary's numbers are one token's: what they add up to must not depend on threads."""
    torch.manual_seed(0)
    states, head = torch.randn(1, 20, 64, requires_grad=True), torch.nn.Linear(64, 1024)
    features = {"token_embeddings": states, "attention_mask": torch.ones(1, 20)}
    weights, found, threads = torch.randn(1, 1024), set(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in range(20):
            states.grad = None
            (highest([SpladePooling("max")], head, features) * weights).sum().backward()
            found.add(states.grad.numpy().tobytes())
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1
