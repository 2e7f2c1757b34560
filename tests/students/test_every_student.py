"""What every student promises, held against sentence-transformers' own classes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import sentence_transformers
import torch
from conftest import tiny_config, tiny_tokenizer
from safetensors.torch import load_file
from sentence_transformers import MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import nn
from transformers import BertForMaskedLM

from rankdistill.candidates import BM25, Random, mine
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.losses import FLOPS, L1, InfoNCE, KLDivergence, WeightedSum
from rankdistill.retrieval.index import index_of, passing_index, stored_index
from rankdistill.samplers import RandomSampler
from rankdistill.students import (
    adapter_student,
    asymmetric_student,
    cross_encoder,
    dense,
    fingerprint_of,
    late_interaction_student,
    load_cross_encoder,
    load_student,
    merge_adapter,
    sparse,
    sparse_student,
    static_student,
)
from rankdistill.students.rankers import ranker_of, reranks, similarity_of
from rankdistill.training import DistillationTrainer, training_arguments
from rankdistill.training.step import check_offers
from rankdistill.vocabulary import Batch


class Folders(NamedTuple):
    """Of models: a bi-encoder of 16 dimensions, a masked-language model, a cross-encoder."""

    bi_encoder: str
    language: str
    cross_encoder: str


def static(
    width: int | None = 8, *after: Callable[[], nn.Module], **settings: Any
) -> Callable[[Folders], SentenceTransformer]:
    """``after`` makes the modules behind the table, each student's its own."""

    def make(of: Folders) -> SentenceTransformer:
        table = static_student(of.bi_encoder, dimensions=width)[0]
        return SentenceTransformer(modules=[table, *(x() for x in after)], device="cpu", **settings)

    return make


def asymmetric(query: Callable, document: Callable, freeze: str | None = "document", **more: Any) -> Callable:
    return lambda of: asymmetric_student(query(of), document(of), freeze, **more)


def transformer(**fields: Any) -> Callable:
    return lambda of: load_student(of.bi_encoder, **fields)


def late_interaction(dimensions: int | None, **fields: Any) -> Callable:
    return lambda of: late_interaction_student(of.bi_encoder, dimensions, **fields)


def compared_by(make: Callable, similarity: str) -> Callable:
    def made(of: Folders) -> Any:
        student = make(of)
        student.similarity_fn_name = similarity
        return student

    return made


def summed(of: Folders) -> SparseEncoder:
    """Another pooling, and a bound of active dimensions."""
    head = Transformer(of.language, transformer_task="fill-mask")
    return SparseEncoder(modules=[head, SpladePooling("sum")], device="cpu", max_active_dims=7)


def expanded(of: Folders) -> MultiVectorEncoder:
    """Queries are expanded, documents are short, some words do not count."""
    reader = Transformer(
        of.bi_encoder, query_expansion={"strategy": "fixed", "length": 9}, document_length=12
    )
    modules = [reader, MultiVectorMask(["w1", "w2"]), Normalize("token_embeddings")]
    return MultiVectorEncoder(modules=modules, prompts={"query": "w5 ", "document": "w6 "}, device="cpu")


def head() -> Dense:
    torch.manual_seed(4)
    return Dense(16, 16, activation_function=nn.Tanh())


PROMPTS = {"query": "w1 w2 ", "document": "w3 "}
CASES: dict[str, Callable[[Folders], Any]] = {
    "dense": transformer(),
    "dense, a layer, prompts": transformer(layers=1, prompts=PROMPTS),
    "dense, LoRA": transformer(lora={"r": 2}),
    "matryoshka": transformer(dimensions=[8, 4]),
    "static": static(),
    "static, normalised, truncated": static(8, Normalize, truncate_dim=4),
    "static, prompts": static(prompts=PROMPTS),
    "static, matryoshka": lambda of: static_student(of.bi_encoder, dimensions=[8, 4]),
    "static, frozen transformer": asymmetric(static(None), transformer()),
    "narrow static, frozen transformer": asymmetric(static(8), transformer()),
    "static, transformer": asymmetric(static(None), transformer(), None),
    "frozen static, transformer": asymmetric(static(None), transformer(), "query"),
    "two transformers": asymmetric(transformer(layers=1), transformer(), None, max_length=9),
    "frozen, static with a head": asymmetric(transformer(), static(None, head, Normalize), "query"),
    "LoRA, frozen": asymmetric(transformer(lora={"r": 2}), transformer(prompts=PROMPTS)),
    "asymmetric, dot product": asymmetric(static(None), compared_by(transformer(), "dot")),
    "asymmetric, truncated": asymmetric(
        static(None, truncate_dim=4), compared_by(static(None, truncate_dim=4), "dot")
    ),
    "adapter": lambda of: adapter_student(of.bi_encoder),
    "adapter, low rank": lambda of: adapter_student(of.bi_encoder, rank=3, layers=1, max_length=7),
    "adapter of static": lambda of: adapter_student(static()(of)),
    "adapter, dot product, prompts": lambda of: adapter_student(
        compared_by(static(prompts=PROMPTS), "dot")(of)
    ),
    "sparse": lambda of: sparse_student(of.bi_encoder, max_length=14),
    "sparse, static queries": lambda of: sparse_student(of.bi_encoder, queries="static"),
    "sparse, language head": lambda of: sparse_student(of.language),
    "sparse, sums": summed,
    "sparse, cosine": compared_by(lambda of: sparse_student(of.bi_encoder), "cosine"),
    "late interaction": late_interaction(8, max_length=14),
    "late interaction, whole": late_interaction(None),
    "late interaction, means": compared_by(
        lambda of: late_interaction_student(of.bi_encoder, 8), "meanmaxsim"
    ),
    "late interaction, expanded": expanded,
    "cross-encoder": lambda of: load_cross_encoder(of.cross_encoder, max_length=64),
    "cross-encoder, a new head": lambda of: load_cross_encoder(of.bi_encoder, layers=1, max_length=20),
    "cross-encoder, LoRA": lambda of: load_cross_encoder(of.cross_encoder, lora={"r": 2}),
}
FEW = {  # one of each kind; the others take longer
    *("dense", "dense, LoRA", "matryoshka", "static", "static, frozen transformer", "adapter"),
    *("sparse", "sparse, static queries", "late interaction", "cross-encoder", "cross-encoder, LoRA"),
}
every = pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=[] if name in FEW else [pytest.mark.slow])
        for name, make in CASES.items()
    ],
)


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """As encode and predict have it."""
    monkeypatch.setattr("rankdistill.runtime.hardware.has_bf16", lambda: False)
    monkeypatch.setattr(cross_encoder, "has_bf16", lambda: False)


@pytest.fixture(scope="module")
def folders(student_folder, wide_cross_encoder_folder, tmp_path_factory):
    language = str(tmp_path_factory.mktemp("language"))
    torch.manual_seed(0)
    BertForMaskedLM(tiny_config()).save_pretrained(language)
    tiny_tokenizer().save_pretrained(language)
    return Folders(student_folder, language, wide_cross_encoder_folder)


@pytest.fixture
def student(make, folders):
    torch.manual_seed(5)  # of a new scoring head
    return make(folders)


def trainer_of(student, table, folder, **fields):
    defaults = {"per_device_train_batch_size": 4, "bf16": False, "disable_tqdm": True, "learning_rate": 0.01}
    loss: nn.Module = KLDivergence()
    if not reranks(student):
        loss = WeightedSum({"kl": loss, "nce": InfoNCE(in_batch=True)}, {"kl": 1.0, "nce": 1.0})
    arguments = training_arguments(str(folder), **{**defaults, **fields})
    return DistillationTrainer(
        student, table, RandomSampler(1, 3), loss, arguments, teacher_scale=1.0, chunk_tokens=60
    )


def moved(student):
    """``student`` as some training leaves it: an adapter is no longer 0."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in student.parameters():
            if weight.requires_grad:
                weight.add_(0.02 * torch.randn_like(weight))
    return student


def step_of(trainer, queries):
    """What the step makes of these queries' groups: the batch, and the student's scores (B, G)."""
    batch = trainer.data_collator([trainer.train_dataset[i] for i in queries])
    with trainer.model.student.training_pass():
        return batch, trainer.model.outputs(Batch(**batch))[0].scores


def groups_of(batch, collection):
    """A query and its documents' texts, group by group."""
    for b, row in enumerate(batch["query_rows"].tolist()):
        rows = batch["document_rows"][batch["index"][b]].tolist()
        yield collection.queries[row], [collection.documents[x] for x in rows]


def scores_of(model, query, documents):
    """sentence-transformers' own, float (n,), in the student's scale."""
    if reranks(model):
        pairs = [(query, document) for document in documents]
        return model.predict(pairs, activation_fn=nn.Identity(), show_progress_bar=False)
    found = model.similarity(model.encode_query([query]), model.encode_document(documents))
    found = (found.to_dense() if found.is_sparse else found)[0].numpy()
    sums = isinstance(model, (SparseEncoder, MultiVectorEncoder))
    return found * (1 if sums and model.similarity_fn_name in ("dot", "maxsim") else 20)


@every
@pytest.mark.parametrize("loss", [FLOPS(), L1()], ids=["FLOPS", "L1"])
def test_weights_of_terms_are_of_sparse_students_alone(loss, student):
    """Of another kind's vectors the penalty would be a number too, and train on it without a word."""
    ranker = ranker_of(student, similarity_of(student, None), None, half=False, grad_cache=False)
    whole = WeightedSum({"kl": KLDivergence(), "sparsity": loss}, {"kl": 1.0, "sparsity": 1.0})
    if isinstance(student, SparseEncoder):
        assert (student.encode_document(["w1 w2 w3"]).to_dense() >= 0).all()
        return check_offers(ranker, whole)
    with pytest.raises(InputError, match=r"WeightedSum reads .*term_weights, which the student, .* does not"):
        check_offers(ranker, whole)


@every
def test_scores_are_the_similarity_of_the_encodings(student, table, tmp_path):
    trainer = trainer_of(moved(student), table, tmp_path)
    batch, scores = step_of(trainer, range(6))
    assert scores.shape == (6, 4) and scores.std() > 0
    for found, group in zip(scores.detach(), groups_of(batch, table.collection), strict=True):
        np.testing.assert_allclose(found, scores_of(student, *group), atol=2e-4, rtol=1e-5)


@every
def test_scores_are_the_scale_times_what_their_vectors_give(student, table, tmp_path):
    """Of two documents too, as a loss scores them; None where there are no vectors."""
    trainer = trainer_of(student, table, tmp_path)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in (0, 3, 5)])
    outputs = trainer.model.outputs(Batch(**batch))[0]
    if reranks(student):
        assert outputs.scale is None and outputs.queries is None
    elif outputs.queries.mask is not None:  # token vectors
        assert outputs.scale == trainer.model.student.scale
    else:
        products = outputs.scale * outputs.queries.vectors @ outputs.documents.vectors.T
        torch.testing.assert_close(products.gather(1, batch["index"]), outputs.scores)


@every
def test_weights_that_are_nan_are_never_measured(student, table):
    """Not as 0, nor as the best, by any index."""
    with torch.no_grad():
        for weight in student.parameters():
            if weight.requires_grad:
                weight.fill_(torch.nan)
    collection = table.collection
    message = "^model: its (embedding|score) of .* is not finite: damaged"
    with pytest.raises(InputError, match=message):
        Evaluator(k=20).evaluate(student, collection)
    for make in (index_of, stored_index, passing_index):
        with pytest.raises(InputError, match=message):
            made = make(student, collection.documents if make is index_of else collection)
            made.scores(collection.queries[:2], np.array([0, 1]), np.array([3, 4]))


@every
def test_a_gradient_reaches_every_trained_parameter_and_no_other(student, table, tmp_path):
    trainer = trainer_of(moved(student), table, tmp_path)
    trained = {name for name, weight in student.named_parameters() if weight.requires_grad}
    assert trained
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(16)])
    with trainer.model.student.training_pass():
        trainer.model.train()(**batch)[0].backward()
    reached = {
        name for name, x in student.named_parameters() if x.grad is not None and x.grad.to_dense().any()
    }
    assert reached <= trained
    pooled = reranks(student)  # BERT's own pooler is before a scoring head, and nothing of others reads it
    # softmax feels no shift of all keys, nor one of all scores
    blind = ("key.bias", "classifier.bias", *(() if pooled else ("pooler",)))
    assert not [name for name in trained - reached if not any(part in name for part in blind)]


@every
def test_packed_is_padded(student, table, tmp_path, monkeypatch):
    """Where nothing is packed the two are one."""
    _, packed = step_of(trainer_of(moved(student), table, tmp_path), range(5))
    for module in (dense, sparse, cross_encoder):
        monkeypatch.setattr(module, "first_position", lambda *_, **__: None)
    trainer = trainer_of(student, table, tmp_path)
    batch, padded = step_of(trainer, range(5))
    assert "cu_seq_lens_q" not in str(batch["inputs"])
    np.testing.assert_allclose(packed.detach(), padded.detach(), atol=1e-4, rtol=1e-5)


@every
def test_a_group_is_scored_alike_whatever_is_beside_it(student, table, tmp_path):
    trainer = trainer_of(moved(student), table, tmp_path)
    _, together = step_of(trainer, range(7))
    for i in (0, 6):
        _, alone = step_of(trainer, [i])
        np.testing.assert_allclose(alone[0].detach(), together[i].detach(), atol=1e-4, rtol=1e-5)


@every
def test_what_is_saved_is_what_was_trained(student, table, tmp_path):
    """By the class of its kind, and as a student again."""
    before = fingerprint_of(student)
    frozen = {name: x.clone() for name, x in student.named_parameters() if not x.requires_grad}
    trainer = trainer_of(student, table, tmp_path, max_steps=2)
    trainer.train()
    for name, weight in student.named_parameters():
        assert name not in frozen or torch.equal(weight, frozen[name]), name
    batch, scores = step_of(trainer, range(4))
    merge_adapter(student)
    assert fingerprint_of(student) != before
    student.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    kind = getattr(sentence_transformers, type(student).__name__)
    saved = kind(str(tmp_path / "model"), device="cpu")
    for found, group in zip(scores.detach(), groups_of(batch, table.collection), strict=True):
        expected = scores_of(student, *group)
        np.testing.assert_allclose(scores_of(saved, *group), expected, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-5)
    load = load_cross_encoder if reranks(student) else load_student
    assert fingerprint_of(load(str(tmp_path / "model"), max_length=None)) == fingerprint_of(student)


@every
def test_at_rate_0_after_is_before(student, table, tmp_path):
    collection, evaluator = table.collection, Evaluator(k=20)
    pools = mine(collection, [BM25(6), Random(3)], "test") if reranks(student) else None
    before = evaluator.evaluate(student, collection, candidates=pools)
    trainer_of(student, table, tmp_path, max_steps=2, learning_rate=0.0, weight_decay=0.1).train()
    merge_adapter(student)
    after = evaluator.evaluate(student, collection, candidates=pools)
    assert (after.per_query, after.run.ranking, after.active) == (
        before.per_query,
        before.run.ranking,
        before.active,
    )


@every
def test_a_resumed_run_ends_in_the_same_weights(make, folders, table, tmp_path):
    fields = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 3, "max_grad_norm": 0.1}
    students = []
    for name in ("whole", "again"):
        torch.manual_seed(5)
        student = make(folders)
        students.append(student)
        trainer = trainer_of(student, table, tmp_path / name, **fields)
        trainer.train(
            resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3") if name == "again" else None
        )
    whole, again = (student.state_dict() for student in students)
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())
    stored = load_file(tmp_path / "whole" / "checkpoint-3" / "model.safetensors")
    frozen = [x for x in students[0].parameters() if not x.requires_grad]
    assert not set(stored) & {
        f"student.model.{name}" for name, x in students[0].named_parameters() if not x.requires_grad
    }
    assert ("frozen" in stored) == bool(frozen)
    if frozen:
        with torch.no_grad():
            frozen[0].view(-1)[0] += 1
        resumed = trainer_of(students[0], table, tmp_path / "other", **fields)
        with pytest.raises(InputError, match="other frozen weights"):
            resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
