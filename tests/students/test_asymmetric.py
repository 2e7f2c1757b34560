"""Asymmetric students: a Router of two encoders, trained, stored and measured side by side."""

import numpy as np
import pytest
import torch
from conftest import tiny_tokenizer
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding, Transformer
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel

from rankdistill.candidates import Dense as DenseRetriever
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.losses import InfoNCE, KLDivergence, WeightedSum
from rankdistill.retrieval import embed_documents, embed_queries, index_of
from rankdistill.samplers import RandomSampler
from rankdistill.students import asymmetric_student, fingerprint_of, load_student, merge_adapter, start_of
from rankdistill.students.lengths import cut_texts
from rankdistill.students.sides import encoders, sides, stored_modules
from rankdistill.training import DistillationTrainer, training_arguments

BOTH = {"kl": KLDivergence(), "nce": InfoNCE(in_batch=True)}


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr("rankdistill.runtime.hardware.has_bf16", lambda: False)  # encode has full precision


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory):
    """A bi-encoder of 24 dimensions; the tiny one has 16."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(2)
    size = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=205, hidden_size=24, **size)).save_pretrained(folder / "bert")
    tiny_tokenizer().save_pretrained(folder / "bert")
    modules = [Transformer(str(folder / "bert")), Pooling(24), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "model"))
    return str(folder / "model")


def static(width=24, *after, seed=3, **settings):
    torch.manual_seed(seed)
    embedding = StaticEmbedding(tiny_tokenizer().backend_tokenizer, embedding_dim=width)
    return SentenceTransformer(modules=[embedding, *after], device="cpu", **settings)


def head():
    torch.manual_seed(4)
    return Dense(16, 24, activation_function=torch.nn.Tanh())


def headed(folder):
    student = load_student(folder)
    return SentenceTransformer(modules=[*student, head(), Normalize()], device="cpu")


CASES = {
    "static, frozen transformer": lambda a, b: asymmetric_student(static(), load_student(b)),
    "narrow static, frozen transformer": lambda a, b: asymmetric_student(static(8), load_student(b)),
    "static, transformer": lambda a, b: asymmetric_student(static(), load_student(b), None),
    "frozen static, transformer": lambda a, b: asymmetric_student(static(16), load_student(a), "query"),
    "two transformers": lambda a, b: asymmetric_student(load_student(a), load_student(b), None),
    "transformer with a head, frozen": lambda a, b: asymmetric_student(headed(a), load_student(b)),
    "frozen, static with a head": lambda a, b: asymmetric_student(
        load_student(b), static(16, head(), Normalize()), "query"
    ),
    "prompts": lambda a, b: asymmetric_student(
        load_student(a, prompts={"query": "w1 w2 "}), load_student(b, prompts={"document": "w3 "}), None
    ),
    "lengths": lambda a, b: asymmetric_student(static(), load_student(b), None, max_length=5),
    "LoRA": lambda a, b: asymmetric_student(load_student(a, lora={"r": 2}), load_student(b)),
    "dot product": lambda a, b: asymmetric_student(
        static(), SentenceTransformer(b, similarity_fn_name="dot", device="cpu")
    ),
    "truncated": lambda a, b: asymmetric_student(
        static(truncate_dim=4), SentenceTransformer(b, truncate_dim=4, device="cpu")
    ),
}


@pytest.fixture(params=CASES)
def student(request, student_folder, wide_folder):
    torch.manual_seed(5)
    return CASES[request.param](student_folder, wide_folder)


def trainer_of(student, table, folder, **fields):
    more = {name: fields.pop(name) for name in ("grad_cache", "chunk_tokens") if name in fields}
    defaults = {"per_device_train_batch_size": 4, "bf16": False, "disable_tqdm": True, "learning_rate": 0.01}
    arguments = training_arguments(str(folder), **{**defaults, **fields})
    loss = WeightedSum(BOTH, dict.fromkeys(BOTH, 1.0))
    return DistillationTrainer(student, table, RandomSampler(1, 3), loss, arguments, **more)


def batch_of(trainer, size=6):
    return trainer.data_collator([trainer.train_dataset[i] for i in range(size)])


def compared(ranker, inputs):
    """The vectors of a step, of length 1 if they are compared by cosine."""
    return [normalize(x, dim=1) if ranker.cosine else x for x in ranker.vectors(inputs)]


def encoded(model, batch, collection):
    """What sentence-transformers makes of a batch's queries and documents."""
    queries = [collection.queries[row] for row in batch["query_rows"].tolist()]
    documents = [collection.documents[row] for row in batch["document_rows"].tolist()]
    unit = model.similarity_fn_name == "cosine"
    return (
        model.encode_query(queries, normalize_embeddings=unit),
        model.encode_document(documents, normalize_embeddings=unit),
    )


def test_the_step_is_encode_and_what_is_saved_is_what_was_trained(student, table, tmp_path):
    trainer = trainer_of(student, table, tmp_path, max_steps=2)
    trainer.train()
    merge_adapter(student)
    student.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    saved = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert (saved.truncate_dim, saved.similarity_fn_name) == (
        student.truncate_dim,
        student.similarity_fn_name,
    )
    batch = batch_of(trainer)
    expected = encoded(saved, batch, table.collection)
    found = compared(trainer.model.student.eval(), batch["inputs"]["student"])
    queries = [table.collection.queries[row] for row in batch["query_rows"].tolist()]
    documents = [table.collection.documents[row] for row in batch["document_rows"].tolist()]
    for ours, theirs, measured in zip(
        found, expected, (embed_queries(student, queries), embed_documents(student, documents)), strict=True
    ):
        np.testing.assert_allclose(ours.detach(), theirs, atol=1e-5)
        np.testing.assert_allclose(measured, theirs, atol=1e-5)
    np.testing.assert_allclose(
        trainer.model.student.similarity(*found).detach() / 20, saved.similarity(*expected), atol=1e-5
    )


def test_in_bf16_both_sides_are_compared_in_float32(student, table, tmp_path):
    trainer = trainer_of(student, table, tmp_path, max_steps=1, bf16=True, use_cpu=True)
    trainer.train()
    assert np.isfinite(trainer.state.log_history[-1]["train_loss"])


def test_grad_cache_gives_the_same_gradient(student, table, tmp_path):
    gradients = []
    for cached in (False, True):
        trainer = trainer_of(student, table, tmp_path, grad_cache=cached, chunk_tokens=40)
        batch = batch_of(trainer)
        trainer.model.zero_grad()
        trainer.model(**batch)[0].backward()
        gradients.append([x.grad.to_dense().clone() for x in student.parameters() if x.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_a_frozen_encoder_reads_each_text_once(student_folder, wide_folder, table, tmp_path, caplog):
    """For mining, before, the steps, dev measures and after; under another student's name too."""
    student = asymmetric_student(static(), load_student(wide_folder))
    collection, read = table.collection, []
    forward = sides(student)["document"][0].forward
    sides(student)["document"][0].forward = lambda features, **more: (
        read.append(features["input_ids"].numel()) or forward(features, **more)
    )
    retriever = DenseRetriever(load_student(wide_folder), 5)
    with caplog.at_level("INFO", logger="rankdistill"):
        retriever.retrieve(collection, collection.query_rows("train"))
        Evaluator(k=20).evaluate(student, collection)
        fields = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2}
        arguments = training_arguments(str(tmp_path), bf16=False, disable_tqdm=True, **fields)
        trainer = DistillationTrainer(
            student, table, RandomSampler(1, 3), KLDivergence(), arguments, eval_dataset="test"
        )
        trainer.train()
        Evaluator(k=20).evaluate(student, collection)
    assert caplog.text.count("embedding 60 documents") == 1
    assert sum(read) < 1000, "but for the trial of packed texts"


def test_dimensions_that_differ_get_a_linear_map_on_the_trained_side(student_folder, wide_folder):
    for freeze, mapped, shape in (
        ("document", "query", (24, 16)),
        ("query", "document", (16, 24)),
        (None, "query", (24, 16)),
    ):
        student = asymmetric_student(load_student(student_folder), load_student(wide_folder), freeze)
        found = {kind: list(side)[-1] for kind, side in sides(student).items()}
        assert found[mapped].linear.weight.shape == shape and found[mapped].linear.weight.requires_grad
        other = found["document" if mapped == "query" else "query"]
        assert not isinstance(other, Dense)
    start = torch.nn.Linear(16, 24, bias=False)
    start.weight = found["query"].linear.weight
    vectors = torch.randn(5, 16)
    torch.testing.assert_close(start(vectors).norm(dim=1), vectors.norm(dim=1))


def test_a_saved_one_goes_on_training(student_folder, wide_folder, table, tmp_path):
    """Of either function; what is frozen is said again."""
    first = asymmetric_student(static(), load_student(wide_folder), max_length=9)
    first.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    again = asymmetric_student(model=str(tmp_path / "model"))
    whole = load_student(str(tmp_path / "model"), max_length=None)
    assert fingerprint_of(again) == fingerprint_of(first) == fingerprint_of(whole) == start_of(whole)
    assert [stored_modules(side) for side in encoders(again)] == [0, 3]
    assert [stored_modules(side) for side in encoders(whole)] == [0, 0]
    before = {name: weight.detach().clone() for name, weight in whole.named_parameters()}
    trainer_of(whole, table, tmp_path / "run", max_steps=2).train()
    moved = {name for name, weight in whole.named_parameters() if not torch.equal(weight, before[name])}
    assert any("query" in name for name in moved) and any("document" in name for name in moved)
    assert fingerprint_of(whole) != fingerprint_of(first)


def test_each_side_has_its_own_length_and_what_is_cut_is_counted(student_folder, collection):
    student = asymmetric_student(static(16), load_student(student_folder, max_length=8))
    found = cut_texts(student, collection)
    assert found["queries"] == {"longer": 0, "of": 24, "tokens": None}
    longer = sum(len(text.split()) + 2 > 8 for text in collection.documents)
    assert found["documents"] == {"longer": longer, "of": 60, "tokens": 8}
    short = asymmetric_student(static(16), load_student(student_folder), max_length=3)
    assert [counts["tokens"] for counts in cut_texts(short, collection).values()] == [3, 3]


def test_the_fingerprint_is_of_both_sides(student_folder, wide_folder):
    student = asymmetric_student(static(), load_student(wide_folder))
    first = fingerprint_of(student)
    for side in encoders(student):
        with torch.no_grad():
            weight = next(side.parameters())
            weight[0, 0] += 1
        assert fingerprint_of(student) != first
        with torch.no_grad():
            weight[0, 0] -= 1


def test_an_index_takes_documents_by_their_own_encoder(student_folder, wide_folder, collection):
    student = asymmetric_student(static(), load_student(wide_folder))
    found = index_of(student, collection.documents[:5]).vectors
    np.testing.assert_allclose(found, load_student(wide_folder).encode(collection.documents[:5]), atol=1e-5)


def two(a, b):
    return asymmetric_student(static(16), load_student(a))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a, b: asymmetric_student(static(), static(), "both"), "student.freeze='both': it must be"),
        (lambda a, b: asymmetric_student(document=static()), "student.query: give an encoder"),
        (lambda a, b: asymmetric_student(static()), "student.document: give an encoder"),
        (lambda a, b: asymmetric_student(model=a), "student.query: give an encoder"),
        (lambda a, b: asymmetric_student(two(a, b), static()), "student.query: it has two encoders itself"),
        (
            lambda a, b: asymmetric_student(static(truncate_dim=4), load_student(b)),
            "queries are truncated to 4 dimensions, documents to None",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_in_a_line(make, message, student_folder, wide_folder):
    with pytest.raises(InputError, match=message) as error:
        make(student_folder, wide_folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fields", [{"layers": 1}, {"lora": {"r": 2}}])
def test_what_applies_to_one_encoder_is_refused_of_two(fields, student_folder, tmp_path):
    two(student_folder, None).save_pretrained(str(tmp_path / "model"), create_model_card=False)
    with pytest.raises(InputError, match=r"has two encoders \(Router\), and not one"):
        load_student(str(tmp_path / "model"), **fields)


def test_what_cannot_be_trained_is_refused_in_a_line(student_folder, wide_folder, table, tmp_path):
    frozen = asymmetric_student(static(), load_student(wide_folder)).requires_grad_(False)
    routes = {"query": [static(16)[0]], "web": [static(16)[0]]}
    other = SentenceTransformer(modules=[Router(routes)], device="cpu")
    unlike = Router.for_query_document(list(static(8)), list(static(16)))
    for student, message in (
        (frozen, "none of its weights is trained"),
        (other, r"its routes \(Router\) are query, web; those that are trained"),
        (
            SentenceTransformer(modules=[unlike], device="cpu"),
            "its queries have 8 dimensions, its documents 16",
        ),
    ):
        with pytest.raises(InputError, match=message) as error:
            trainer_of(student, table, tmp_path)
        assert "\n" not in str(error.value)
