"""Adapter students: a map over a frozen encoder's stored vectors, of a model or of files."""

import numpy as np
import pytest
import torch
from conftest import tiny_tokenizer
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

from rankdistill.candidates import Dense as DenseRetriever
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.losses import InfoNCE, KLDivergence, WeightedSum
from rankdistill.retrieval import embed_documents, embed_queries
from rankdistill.samplers import RandomSampler
from rankdistill.students import (
    adapter_student,
    asymmetric_student,
    fingerprint_of,
    load_student,
    load_weights_from,
    merge_adapter,
    start_of,
    vectors_student,
)
from rankdistill.training import DistillationTrainer, training_arguments

BOTH = {"kl": KLDivergence(), "nce": InfoNCE(in_batch=True)}


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr("rankdistill.runtime.hardware.has_bf16", lambda: False)  # encode has full precision


def trainer_of(student, table, folder, **fields):
    defaults = {"per_device_train_batch_size": 4, "bf16": False, "disable_tqdm": True, "learning_rate": 0.01}
    arguments = training_arguments(str(folder), **{**defaults, **fields})
    loss = WeightedSum(BOTH, dict.fromkeys(BOTH, 1.0))
    return DistillationTrainer(student, table, RandomSampler(1, 3), loss, arguments)


def static(**settings):
    torch.manual_seed(3)
    embedding = StaticEmbedding(tiny_tokenizer().backend_tokenizer, embedding_dim=16)
    return SentenceTransformer(modules=[embedding], device="cpu", **settings)


CASES = {
    "transformer": lambda folder: adapter_student(folder),
    "low rank": lambda folder: adapter_student(folder, rank=3),
    "static": lambda folder: adapter_student(static()),
    "dot product": lambda folder: adapter_student(static(similarity_fn_name="dot")),
    "prompts": lambda folder: adapter_student(folder, prompts={"query": "w1 w2 ", "document": "w3 "}),
    "length, layers": lambda folder: adapter_student(folder, max_length=7, layers=1),
}


@pytest.fixture(params=CASES)
def student(request, student_folder):
    return CASES[request.param](student_folder)


def test_it_begins_as_its_encoder(student_folder, collection):
    plain = load_student(student_folder)
    for rank in (None, 2):
        student = adapter_student(student_folder, rank=rank)
        np.testing.assert_allclose(
            student.encode(collection.documents),
            plain.encode(collection.documents, normalize_embeddings=True),
        )
        found, expected = (Evaluator(k=60).evaluate(x, collection) for x in (student, plain))
        assert list(found.run.ranking) == list(expected.run.ranking)
        for query, ranked in found.run.ranking.items():
            assert [document for document, _ in ranked] == [d for d, _ in expected.run.ranking[query]]


def test_what_is_trained_is_the_map_and_what_is_saved_is_what_was_trained(student, table, tmp_path):
    before = {name: weight.detach().clone() for name, weight in student.named_parameters()}
    first = start_of(student)
    trainer = trainer_of(student, table, tmp_path, max_steps=4)
    trainer.train()
    moved = {name for name, weight in student.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name, weight in student.named_parameters() if weight.requires_grad}
    last = str(len(student) - 1)
    assert all(name.startswith(f"{last}.linear.") for name in moved)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(6)])
    step = trainer.model.student.vectors(batch["inputs"]["student"])
    if student.similarity_fn_name == "cosine":
        step = [torch.nn.functional.normalize(x, dim=1) for x in step]
    merge_adapter(student)
    student.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    saved = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert type(saved[-1]) is Dense and fingerprint_of(saved) == fingerprint_of(student) != first
    collection, unit = table.collection, student.similarity_fn_name == "cosine"
    for ours, rows, texts, encode, embed in (
        (step[0], batch["query_rows"], collection.queries, saved.encode_query, embed_queries),
        (step[1], batch["document_rows"], collection.documents, saved.encode_document, embed_documents),
    ):
        some = [texts[row] for row in rows.tolist()]
        expected = encode(some, normalize_embeddings=unit)
        np.testing.assert_allclose(ours.detach(), expected, atol=1e-5)
        np.testing.assert_allclose(embed(student, some), expected, atol=1e-5)


def test_texts_are_encoded_once(student_folder, table, tmp_path, caplog):
    """Documents for mining, before, the steps, dev measures and after; queries for the steps, once."""
    student, evaluator = adapter_student(static()), Evaluator(k=20)
    plain = SentenceTransformer(modules=[*static(), Normalize()], device="cpu")
    with caplog.at_level("INFO", logger="rankdistill"):
        DenseRetriever(plain, 5).retrieve(table.collection, table.collection.query_rows("train"))
        evaluator.evaluate(student, table.collection)
        arguments = training_arguments(
            str(tmp_path), bf16=False, disable_tqdm=True, max_steps=4, eval_strategy="steps", eval_steps=2
        )
        dev = {"eval_dataset": "test", "evaluator": evaluator}
        DistillationTrainer(student, table, RandomSampler(1, 3), KLDivergence(), arguments, **dev).train()
        evaluator.evaluate(student, table.collection)
    assert caplog.text.count("embedding 60 documents") == 1
    assert caplog.text.count("embedding 24 queries") == 1


def test_a_low_rank_map_has_that_rank_and_goes_on(student_folder, table, tmp_path):
    student = adapter_student(student_folder, rank=2)
    trainer_of(student, table, tmp_path, max_steps=4).train()
    merge_adapter(student)
    weight = student[-1].linear.weight.detach()
    assert torch.linalg.matrix_rank(weight, rtol=1e-4) == 2
    student.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    for rank in (None, 3):
        again = adapter_student(str(tmp_path / "model"), rank=rank)
        assert len(again) == len(student)
        torch.testing.assert_close(again[-1].linear.weight, weight)
        trainer_of(again, table, tmp_path / str(rank), max_steps=2).train()
        merge_adapter(again)
        assert not torch.equal(again[-1].linear.weight, weight)


def test_a_seed_draws_nothing(student_folder):
    starts = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        starts.append(fingerprint_of(adapter_student(student_folder, rank=2)))
    assert starts[0] == starts[1]


def test_a_killed_run_resumes_to_the_same_weights(student_folder, table, tmp_path):
    fields = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 3}
    whole, again = (adapter_student(student_folder, rank=2) for _ in range(2))
    trainer_of(whole, table, tmp_path / "whole", **fields).train()
    resumed = trainer_of(again, table, tmp_path / "again", **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    last = adapter_student(student_folder, rank=2)
    resumed.save_model(str(tmp_path / "last"))
    load_weights_from(last, tmp_path / "last" / "model.safetensors")
    for student in (again, last):
        merge_adapter(student)
    merge_adapter(whole)
    assert torch.equal(again[-1].linear.weight, whole[-1].linear.weight)
    assert torch.equal(last[-1].linear.weight, whole[-1].linear.weight)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: adapter_student(folder, rank=0), "student.rank=0: it must be 1 or more"),
        (lambda folder: adapter_student(folder, rank=17), "student.rank=17: the vectors have 16 dimensions"),
        (
            lambda folder: adapter_student(asymmetric_student(static(), load_student(folder))),
            r"student.model: it has two encoders \(Router\)",
        ),
    ],
)
def test_what_cannot_be_made_is_named(make, message, student_folder):
    with pytest.raises(InputError, match=message) as error:
        make(student_folder)
    assert "\n" not in str(error.value)


@pytest.fixture
def files(collection, tmp_path):
    """Vectors of the tiny collection as an API might have sold them."""
    sold = static()
    found = {"documents": sold.encode(collection.documents), "queries": sold.encode(collection.queries)}
    for name, vectors in found.items():
        np.save(tmp_path / f"{name}.npy", 3 * vectors)
    return {name: tmp_path / f"{name}.npy" for name in found}


@pytest.mark.parametrize("rank", [None, 3])
def test_a_map_of_vectors_from_files(files, rank, table, tmp_path):
    """It trains as a model's would, and what is saved maps the same vectors alike."""
    student = vectors_student(**files, collection=table.collection, rank=rank)
    like = adapter_student(static(), rank=rank)
    runs = []
    for one, name in ((student, "files"), (like, "model")):
        before = Evaluator(k=20).evaluate(one, table.collection)
        trainer_of(one, table, tmp_path / name, max_steps=4).train()
        merge_adapter(one)
        runs.append((before, Evaluator(k=20).evaluate(one, table.collection)))
    torch.testing.assert_close(student[-1].linear.weight, like[-1].linear.weight, atol=1e-5, rtol=1e-3)
    for one, other in zip(*runs, strict=True):
        assert {q: [d for d, _ in found] for q, found in one.run.ranking.items()} == {
            q: [d for d, _ in found] for q, found in other.run.ranking.items()
        }
    student.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    saved = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    raw = torch.from_numpy(np.load(files["documents"]))
    found = torch.nn.functional.normalize(saved({"sentence_embedding": raw})["sentence_embedding"], dim=1)
    expected = embed_documents(student, table.collection.documents)
    np.testing.assert_allclose(found.detach(), expected, atol=1e-5)
    again = vectors_student(**files, collection=table.collection, model=str(tmp_path / "model"))
    np.testing.assert_allclose(embed_documents(again, table.collection.documents), expected, atol=1e-6)
    with pytest.raises(InputError, match="maps vectors and reads no text") as error:
        load_student(str(tmp_path / "model"))
    assert "\n" not in str(error.value)


def test_what_is_wrong_with_the_files_is_said_in_a_line(files, collection, student_folder, tmp_path):
    np.save(tmp_path / "few.npy", np.zeros((59, 16), np.float32))
    np.save(tmp_path / "flat.npy", np.zeros(60, np.float32))
    np.save(tmp_path / "whole.npy", np.zeros((60, 16), np.int64))
    np.save(tmp_path / "narrow.npy", np.zeros((24, 8), np.float16))
    np.save(tmp_path / "nan.npy", np.where(np.eye(60, 16) > 0, np.nan, 1))
    np.save(tmp_path / "objects.npy", np.array([None] * 60, dtype=object))
    np.savez(tmp_path / "several.npz", a=np.zeros(3))
    (tmp_path / "text.npy").write_text("0.1 0.2")
    np.save(tmp_path / "none.npy", np.zeros((60, 0), np.float32))
    np.save(tmp_path / "longer.npy", np.ones((60, 16), np.float32))
    with open(tmp_path / "longer.npy", "ab") as file:
        file.write(b"more")
    for name, size, kind in (("huge", 1e30, "f4"), ("double", 1e300, "f8"), ("tiny", 1e-30, "f4")):
        np.save(tmp_path / f"{name}.npy", np.full((60, 16), size, kind))
    for fields, message in (
        (
            {"documents": "few.npy"},
            r"student.documents: .*few.npy is float32 \(59, 16\); it must be float \(60",
        ),
        (
            {"documents": "flat.npy"},
            r"is float32 \(60,\); it must be float \(60, d\), a row for each of the 60",
        ),
        ({"documents": "whole.npy"}, r"is int64 \(60, 16\)"),
        ({"documents": "nan.npy"}, "numbers that are not finite, in row '0', '1', '2' and 13 more"),
        ({"documents": "objects.npy"}, r"student.documents: .*objects.npy is not a .npy file of floats"),
        ({"documents": "several.npz"}, "holds several arrays"),
        ({"documents": "text.npy"}, r"text.npy is not a .npy file of floats \(it does not begin as one\)"),
        ({"documents": "objects.npy"}, r"\(it holds objects\)$"),
        ({"documents": "none.npy"}, r"none.npy is float32 \(60, 0\); it must be float"),
        ({"documents": "longer.npy"}, "longer.npy holds 3972 bytes, and an array of 3968; write it again"),
        (
            {"documents": "huge.npy"},
            "huge.npy has vectors of a length beyond 1e-12 to 1e.18, .* in row '0',",
        ),
        ({"documents": "double.npy"}, "double.npy has vectors of a length beyond"),
        ({"documents": "tiny.npy"}, "tiny.npy has vectors of a length beyond"),
        (
            {"queries": "nowhere.npy"},
            r"student.queries: .*nowhere.npy is not a .npy file of floats \(no such file",
        ),
        ({"queries": "narrow.npy"}, "has vectors of 8 dimensions, student.documents of 16"),
    ):
        given = {name: tmp_path / file for name, file in fields.items()}
        with pytest.raises(InputError, match=message) as error:
            vectors_student(**{**files, **given}, collection=collection)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="reads texts; a map of vectors is needed here"):
        vectors_student(**files, collection=collection, model=student_folder)
    student = vectors_student(**files, collection=collection)
    with pytest.raises(InputError, match="there is no vector of the query 'something else'"):
        embed_queries(student, ["something else"])
