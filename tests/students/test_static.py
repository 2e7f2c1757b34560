"""Static students: made of a transformer, trained on the batch's own rows, measured as they are saved."""

import numpy as np
import pytest
import torch
from conftest import tiny_tokenizer
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from tokenizers import Tokenizer

from rankdistill.errors import InputError
from rankdistill.losses import InfoNCE, KLDivergence, WeightedSum
from rankdistill.retrieval import embed_documents, embed_queries, passing_embeddings
from rankdistill.samplers import RandomSampler
from rankdistill.students import embed as students_embed
from rankdistill.students import load_student, static, static_student
from rankdistill.students.fast.tokens import read_limit, stored_tokens
from rankdistill.students.lengths import cut_texts
from rankdistill.students.static import principal, weights
from rankdistill.training import DistillationTrainer, training_arguments
from rankdistill.vocabulary import Batch

BOTH = {"kl": KLDivergence(), "nce": InfoNCE(in_batch=True)}


def trainer_of(student, table, folder, **fields):
    defaults = {"per_device_train_batch_size": 4, "bf16": False, "disable_tqdm": True, "learning_rate": 0.05}
    loss = WeightedSum(BOTH, dict.fromkeys(BOTH, 1.0))
    arguments = training_arguments(str(folder), **{**defaults, **fields})
    return DistillationTrainer(student, table, RandomSampler(1, 3), loss, arguments)


def table_of(student):
    return student[0].embedding.weight.detach().clone()


def test_principal_components_keep_most_of_the_spread():
    """Points on a line in three dimensions: one component, centred, in their order."""
    steps = np.array([0.0, 1.0, 2.0, 5.0])
    found = principal(np.outer(steps, [2.0, -1.0, 2.0]) + 7, 1)
    np.testing.assert_allclose(np.abs(found[:, 0]), np.abs(3 * (steps - 2)), atol=1e-12)
    whole = np.random.default_rng(0).normal(size=(50, 6))
    kept = principal(whole, 4)
    spectrum = np.linalg.svd(whole - whole.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(np.linalg.svd(kept, compute_uv=False), spectrum[:4])
    np.testing.assert_array_equal(principal(whole, None), whole - whole.mean(axis=0))


def test_a_vocabulary_is_embedded_once(student_folder, monkeypatch, caplog):
    """Kept by the model's weights and layers; what is made of it, dimensions and prompts, is not asked."""
    first = static_student(student_folder, dimensions=8)
    monkeypatch.setattr(static, "_embedded_tokens", lambda _: pytest.fail("embedded again"))
    with caplog.at_level("INFO"):
        again = static_student(student_folder, dimensions=8)
    assert "models/vocabulary-" in caplog.text
    assert torch.equal(table_of(first), table_of(again))
    assert static_student(student_folder, dimensions=4)[0].embedding.weight.shape[1] == 4
    with pytest.raises(pytest.fail.Exception, match="embedded again"):
        static_student(student_folder, dimensions=8, layers=1)


def test_weights_are_those_of_zipfs_law():
    """Of four tokens the shares are 12, 6, 4 and 3 of 25."""
    np.testing.assert_allclose(weights(4), [1e-4 / (1e-4 + x / 25) for x in (12, 6, 4, 3)])
    assert (np.diff(weights(1000)) > 0).all(), "the rarer, the more"


def test_vectors_are_what_the_model_makes_of_each_token(student_folder):
    """Before their components are taken: [CLS] token [SEP] through the model, or its input embeddings."""
    whole = load_student(student_folder)
    words = ["w1", "w7", "w12"]
    rows = [whole.tokenizer.get_vocab()[word] for word in words]
    size = len(whole.tokenizer)
    for vectors in ("output", "input"):
        student = static_student(student_folder, dimensions=None, vectors=vectors)
        if vectors == "output":
            every = [[whole.tokenizer.cls_token_id, i, whole.tokenizer.sep_token_id] for i in range(size)]
            ids = torch.tensor(every)
            features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            expected = whole.eval()(features)["sentence_embedding"].detach().numpy()
            np.testing.assert_allclose(expected[rows], whole.encode(words), atol=1e-5)
        else:
            expected = whole.transformers_model.get_input_embeddings().weight.detach().numpy()
        expected = (expected - expected.mean(axis=0)) * weights(size)[:, None]
        np.testing.assert_allclose(table_of(student).numpy(), expected, atol=1e-6)
    assert static_student(student_folder, dimensions=5).get_embedding_dimension() == 5


def test_a_static_folder_is_taken_as_it_is(student_folder, tmp_path):
    first = static_student(student_folder, dimensions=8, max_length=9)
    first.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    again = static_student(str(tmp_path / "model"))
    assert torch.equal(table_of(again), table_of(first)) and read_limit(again) == 9
    assert read_limit(static_student(str(tmp_path / "model"), max_length=5)) == 5
    assert read_limit(static_student(student_folder, None)) is None, "the transformer's limit is not its own"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vectors": "middle"}, "student.vectors='middle': it must be 'output' or 'input'"),
        ({"dimensions": 0}, "student.dimensions=0: it must be 1 or more"),
        ({"dimensions": 999}, "student.dimensions=999: 999, and the vectors of .* have 16; null keeps all"),
        ({"dimensions": [17, 8]}, r"student.dimensions=\[17, 8\]: 17, and the vectors of .* have 16; null"),
        ({"dimensions": 8, "max_length": 0}, "max_length=0: it must be 1 or more"),
        ({"layers": 9}, "student.layers=9: the model has 2 layers"),
    ],
)
def test_what_cannot_be_made_is_named(fields, message, student_folder):
    with pytest.raises(InputError, match=message):
        static_student(student_folder, **fields)


def test_length_is_the_tokenizers_and_what_is_cut_is_counted(student_folder, collection, caplog):
    """The reader that counts, the token store and encode cut the same."""
    student = static_student(student_folder, None, max_length=3)
    counts = [len(text.split()) for text in collection.documents]
    found = cut_texts(student, collection)["documents"]
    assert found == {"longer": sum(n > 3 for n in counts), "of": len(counts), "tokens": 3}
    ids, offsets = stored_tokens(student, collection, "document").flat(range(len(counts)))
    assert np.diff(offsets, append=len(ids)).tolist() == [min(n, 3) for n in counts]
    short = [" ".join(text.split()[:3]) for text in collection.documents]
    np.testing.assert_array_equal(student.encode(short), student.encode(list(collection.documents)))


@pytest.mark.parametrize("more", [[], [Normalize]], ids=["bare", "normalised"])
@pytest.mark.parametrize("fields", [{}, {"truncate_dim": 4}, {"prompts": {"query": "w3 w4 "}}])
def test_the_step_is_encode_and_what_is_saved_is_what_was_trained(
    more, fields, student_folder, table, tmp_path
):
    embedding = static_student(student_folder, dimensions=8)[0]
    student = SentenceTransformer(modules=[embedding, *(kind() for kind in more)], device="cpu", **fields)
    student.similarity_fn_name = "cosine"
    trainer = trainer_of(student, table, tmp_path, max_steps=3)
    trainer.train()
    student.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    saved = SentenceTransformer(str(tmp_path / "model"), truncate_dim=student.truncate_dim)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(6)])
    made = trainer.model.outputs(Batch(**batch))[0]
    queries, documents = made.queries.vectors, made.documents.vectors
    collection = table.collection
    for kind, vectors, rows, texts, embed in (
        ("query", queries, batch["query_rows"], collection.queries, embed_queries),
        ("document", documents, batch["document_rows"], collection.documents, embed_documents),
    ):
        some = [texts[row] for row in rows.tolist()]
        encode = saved.encode_query if kind == "query" else saved.encode_document
        expected = encode(some, normalize_embeddings=True)
        np.testing.assert_allclose(vectors.detach(), expected, atol=1e-5)
        np.testing.assert_allclose(embed(student, some), expected, atol=1e-5)


def test_only_rows_of_shown_tokens_move_and_at_rate_0_none_does(student_folder, table, tmp_path):
    student = static_student(student_folder, dimensions=8)
    before = table_of(student)
    trainer_of(student, table, tmp_path / "a", max_steps=2, learning_rate=0.0, weight_decay=0.1).train()
    assert torch.equal(table_of(student), before)
    trainer = trainer_of(student, table, tmp_path / "b", max_steps=1, lr_scheduler_type="constant")
    seen = set()
    for group in [trainer.train_dataset[i] for i in list(trainer._order)[:4]]:
        texts = [table.collection.queries[group.query_row]]
        texts += [table.collection.documents[row] for row in group.document_rows]
        seen |= set(student[0].preprocess(texts)["input_ids"].tolist())
    trainer.train()
    moved = (table_of(student) != before).any(dim=1).nonzero().flatten().tolist()
    assert set(moved) == seen and len(seen) < len(before)


def test_a_killed_run_resumes_to_the_same_weights(student_folder, table, tmp_path):
    """Row moments and the clipped norm are in checkpoint and history."""
    fields = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 3, "max_grad_norm": 0.1}
    fields |= {"weight_decay": 0.1, "logging_steps": 1}
    whole = static_student(student_folder, dimensions=8)
    trainer = trainer_of(whole, table, tmp_path / "whole", **fields)
    trainer.train()
    again = static_student(student_folder, dimensions=8)
    resumed = trainer_of(again, table, tmp_path / "again", **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert torch.equal(table_of(again), table_of(whole))
    norms = [
        [row["grad_norm"] for row in t.state.log_history if "grad_norm" in row] for t in (trainer, resumed)
    ]
    assert norms[0] == norms[1] and max(norms[0]) > 0.1


@pytest.mark.parametrize("width", [None, 4])
def test_gradients_that_are_not_clipped_have_a_norm(width, student_folder, table, tmp_path):
    """trainer.max_grad_norm=0; 1e9 clips none either."""
    norms, ends = [], []
    for largest in (0, 1e9):
        student = static_student(student_folder, width)
        trainer = trainer_of(
            student, table, tmp_path / str(largest), max_grad_norm=largest, max_steps=2, logging_steps=1
        )
        trainer.train()
        norms.append([row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row])
        ends.append(table_of(student))
    assert norms[0] == norms[1] and len(norms[0]) == 2 and min(norms[0]) > 0
    assert torch.equal(*ends)


def test_another_optimiser_gets_dense_gradients(student_folder, table, tmp_path):
    student = static_student(student_folder, dimensions=8)
    before = table_of(student)
    trainer_of(student, table, tmp_path, max_steps=2, optim="adafactor").train()
    assert not torch.equal(table_of(student), before)


def test_a_slow_tokenizer_is_refused(student_folder, monkeypatch):
    student = load_student(student_folder)
    monkeypatch.setattr("rankdistill.students.static.load_student", lambda *a, **k: student)
    monkeypatch.setattr("rankdistill.students.static.PreTrainedTokenizerFast", int)
    with pytest.raises(InputError, match="needs a fast tokenizer"):
        static_student("somewhere")


def test_a_bare_tokenizer_without_a_limit_reads_all():
    tokenizer = Tokenizer.from_str(tiny_tokenizer().backend_tokenizer.to_str())
    tokenizer.no_truncation()
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=4)], device="cpu")
    assert read_limit(model) is None


@pytest.mark.parametrize("kind", ["whole", "truncated", "normalised", "prompts", "short", "head", "dot"])
def test_stored_tokens_embed_as_the_class_does(student_folder, collection, kind, monkeypatch):
    """Of the whole collection, in windows, whatever the weights are by then."""
    prompts = {"query": "w1 ", "document": "w2 w3 "} if kind == "prompts" else None
    made = static_student(student_folder, 8, max_length=5 if kind == "short" else None, prompts=prompts)
    more = {"normalised": [Normalize()], "head": [Dense(8, 6)]}.get(kind, [])
    student = SentenceTransformer(
        modules=[made[0], *more],
        prompts=made.prompts,
        truncate_dim=4 if kind == "truncated" else None,
        similarity_fn_name="dot" if kind == "dot" else "cosine",
        device="cpu",
    )
    monkeypatch.setattr(students_embed, "WINDOW", 7)
    expected = embed_documents(student, collection.documents)
    monkeypatch.setattr(students_embed, "_embed", None)
    np.testing.assert_allclose(passing_embeddings(student, collection), expected, atol=1e-6)
    with torch.no_grad():
        student[0].embedding.weight.mul_(2)
    scale = 2 if kind == "dot" else 1
    if kind != "head":  # which is not linear
        np.testing.assert_allclose(passing_embeddings(student, collection), scale * expected, atol=1e-5)
