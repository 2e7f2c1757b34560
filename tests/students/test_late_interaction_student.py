"""Students of late interaction: made of a transformer, trained as they are encoded, measured by MaxSim."""

import numpy as np
import pytest
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch.nn.functional import normalize

from rankdistill.errors import InputError
from rankdistill.losses import InfoNCE, KLDivergence, WeightedSum
from rankdistill.retrieval import embed_tokens
from rankdistill.samplers import RandomSampler
from rankdistill.students import fingerprint_of, late_interaction_student, load_student, sparse_student
from rankdistill.students.lengths import cut_texts
from rankdistill.students.rankers import ranker_of, similarity_of
from rankdistill.training import DistillationTrainer, training_arguments
from rankdistill.vocabulary import Batch

LOSSES = {"kl": KLDivergence(), "nce": InfoNCE(in_batch=True)}
MAKES = ["projected", "plain", "expanded", "mean"]


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr("rankdistill.runtime.hardware.has_bf16", lambda: False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, student_folder):
    """Students of every make: a projection, none, expanded queries with words that do not count, a mean."""
    root = tmp_path_factory.mktemp("late")
    made = {
        "projected": late_interaction_student(student_folder, 8),
        "plain": late_interaction_student(student_folder, None),
        "mean": late_interaction_student(student_folder, 8),
    }
    made["mean"].similarity_fn_name = "meanmaxsim"
    transformer = Transformer(
        student_folder, query_expansion={"strategy": "fixed", "length": 9}, document_length=12
    )
    made["expanded"] = MultiVectorEncoder(
        modules=[transformer, MultiVectorMask(["w1", "w2"]), Normalize("token_embeddings")],
        prompts={"query": "w5 ", "document": "w6 "},
        device="cpu",
    )
    for name, student in made.items():
        student.save_pretrained(str(root / name), create_model_card=False)
    return root


def trainer_of(student, table, folder, scale=None, **fields):
    defaults = {"per_device_train_batch_size": 4, "bf16": False, "disable_tqdm": True, "learning_rate": 0.01}
    loss = WeightedSum(LOSSES, dict.fromkeys(LOSSES, 1.0))
    arguments = training_arguments(str(folder), **{**defaults, **fields})
    return DistillationTrainer(student, table, RandomSampler(1, 3), loss, arguments, scale=scale)


def encoded(student, collection, queries, documents):
    """sentence-transformers' own token vectors, and scores."""
    q = student.encode_query([collection.queries[row] for row in queries])
    d = student.encode_document([collection.documents[row] for row in documents])
    return q, d, student.similarity(q, d).numpy()


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("grad_cache", [False, True])
def test_the_step_is_encode_and_a_gradient_reaches_every_weight(make, grad_cache, folders, table, tmp_path):
    student = load_student(str(folders / make), max_length=14)
    assert type(student) is MultiVectorEncoder
    trainer = trainer_of(student, table, tmp_path)
    trainer.data_collator.student.prepare.of["document"].chunk_tokens = 100  # several chunks
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(6)])
    ranker = ranker_of(student, similarity_of(student, None), 3.0, False, grad_cache).train()
    outputs = ranker(batch["inputs"]["student"], Batch(**batch), {"in_batch", "documents"})
    assert len(batch["inputs"]["student"]["documents"]) > 1
    rows = batch["query_rows"].tolist(), batch["document_rows"].tolist()
    q, d, expected = encoded(student, table.collection, *rows)
    np.testing.assert_allclose(outputs.in_batch.detach(), 3 * expected, atol=3e-4)
    groups = np.take_along_axis(3 * expected, batch["index"].numpy(), axis=1)
    np.testing.assert_allclose(outputs.scores.detach(), groups, atol=3e-4)
    for found, vectors in ((outputs.queries, q), (outputs.documents, d)):
        assert found.mask.sum(dim=1).tolist() == list(map(len, vectors))
        np.testing.assert_allclose(found.vectors[found.mask].detach(), torch.cat(vectors), atol=1e-5)
    texts = [table.collection.documents[row] for row in rows[1]]
    for kept in (texts, texts[:1]):  # batch-independent
        found = embed_tokens(student, "document", kept)
        for row in range(len(kept)):
            np.testing.assert_allclose(found[row], d[row], atol=1e-5)
    outputs.scores.sum().backward()
    idle = [name for name, w in ranker.named_parameters() if w.grad is None or not w.grad.any()]
    # softmax does not feel a shift of all keys; MiniLM's kin have a pooler that nothing reads
    assert [name for name in idle if "key.bias" not in name and "pooler" not in name] == []


def test_bf16_is_close(folders, table, tmp_path):
    student = load_student(str(folders / "projected"), max_length=14)
    trainer = trainer_of(student, table, tmp_path)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    exact, half = (
        ranker_of(student, "maxsim", None, half, False)(batch["inputs"]["student"], Batch(**batch), set())
        for half in (False, True)
    )
    assert exact.in_batch is exact.documents is None
    np.testing.assert_allclose(half.scores.detach(), exact.scores.detach(), rtol=0.03)


def test_principal_axes_lose_nothing_where_all_are_kept(student_folder, collection):
    """An orthogonal map of all 16 dimensions leaves every score as it is."""
    plain, turned = (late_interaction_student(student_folder, n) for n in (None, 16))
    rows = range(4), range(9)
    np.testing.assert_allclose(
        encoded(turned, collection, *rows)[2], encoded(plain, collection, *rows)[2], atol=1e-4
    )
    axes = late_interaction_student(student_folder, 5)[1].linear.weight.detach()
    np.testing.assert_allclose(axes @ axes.T, np.eye(5), atol=1e-5)
    assert torch.equal(axes, late_interaction_student(student_folder, 5)[1].linear.weight)
    (tokens,) = plain.encode_query(["w1 w2"])
    (fewer,) = late_interaction_student(student_folder, 5).encode_query(["w1 w2"])
    raw = load_student(student_folder).encode(["w1 w2"], output_value="token_embeddings")[0]
    np.testing.assert_allclose(fewer, normalize(raw @ axes.T, dim=1), atol=1e-5)
    np.testing.assert_allclose(tokens, normalize(raw, dim=1), atol=1e-5)


def test_the_scale_is_1_of_a_sum_and_20_of_a_mean(folders, table, tmp_path):
    for make, scale in (("projected", 1.0), ("mean", 20.0)):
        student = load_student(str(folders / make), max_length=14)
        assert trainer_of(student, table, tmp_path).model.student.scale == scale
    assert trainer_of(student, table, tmp_path, scale=2.0).model.student.scale == 2.0


@pytest.mark.parametrize(("make", "length"), [("projected", 9), ("expanded", 9), ("expanded", 40)])
def test_what_is_cut_is_counted(make, length, folders, collection):
    student = load_student(str(folders / make), max_length=length)
    found = cut_texts(student, collection)
    read, prompt = min(length, 12 if make == "expanded" else length), make == "expanded"
    assert found["documents"]["tokens"] == read
    assert found["documents"]["longer"] == sum(
        len(text.split()) + 2 + prompt > read for text in collection.documents
    )
    assert max(len(tokens) for tokens in student.encode_document(collection.documents)) <= read


def test_models_that_read_texts_to_other_lengths_share_no_tokens(folders, table, tmp_path):
    for length in (12, 5):
        student = load_student(str(folders / "expanded"))
        student[0].document_length = length
        trainer = trainer_of(student, table, tmp_path)
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
        assert max(x["input_ids"].shape[1] for x in batch["inputs"]["student"]["documents"]) == length


def test_a_late_interaction_folder_is_taken_as_it_is(folders):
    first = load_student(str(folders / "mean"))
    assert fingerprint_of(late_interaction_student(str(folders / "mean"), 3)) == fingerprint_of(first)


def test_what_cannot_be_made_is_named(student_folder, folders, tmp_path):
    with pytest.raises(InputError, match="student.dimensions=17: the model's token vectors have 16"):
        late_interaction_student(student_folder, 17)
    with pytest.raises(InputError, match="student.dimensions"):
        load_student(str(folders / "plain"), dimensions=[4])
    sparse_student(student_folder).save_pretrained(str(tmp_path / "sparse"), create_model_card=False)
    with pytest.raises(InputError, match="is a sparse encoder .*, and a late-interaction model .* is needed"):
        late_interaction_student(str(tmp_path / "sparse"))
    with pytest.raises(InputError, match="similarity=cosine: a late-interaction model compares tokens"):
        similarity_of(load_student(str(folders / "plain")), "cosine")
