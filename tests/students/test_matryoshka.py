"""Matryoshka: the first dimensions of a student's vectors are trained and measured alone as well."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from rankdistill.errors import InputError
from rankdistill.losses import InfoNCE, KLDivergence, WeightedSum
from rankdistill.losses.base import value_of
from rankdistill.retrieval import index_of
from rankdistill.runtime.environment import cache_folder
from rankdistill.samplers import RandomSampler
from rankdistill.students import load_student, static_student
from rankdistill.students.matryoshka import cuts_of
from rankdistill.training import DistillationTrainer, training_arguments
from rankdistill.vocabulary import Batch, Outputs

BOTH = {"kl": KLDivergence(), "nce": InfoNCE(in_batch=True)}
LOSS = WeightedSum(BOTH, dict.fromkeys(BOTH, 1.0))


def trainer_of(student, table, folder, **more):
    arguments = training_arguments(str(folder), per_device_train_batch_size=4, bf16=False, disable_tqdm=True)
    return DistillationTrainer(student, table, RandomSampler(1, 3), LOSS, arguments, **more)


def first(vectors, n):
    return torch.nn.functional.normalize(vectors[:, :n], dim=1)


def test_the_loss_is_the_mean_over_the_cut_vectors(student_folder, table, tmp_path):
    """By hand, from the vectors that ``encode`` of sentence-transformers gives at each ``truncate_dim``."""
    student = load_student(student_folder, dimensions=[16, 4, 8])
    assert cuts_of(student) == (8, 4), "its own 16 is no cut"
    trainer = trainer_of(student, table, tmp_path)
    batch = Batch(**trainer.data_collator([trainer.train_dataset[i] for i in range(4)]))
    step = trainer.model.eval()
    outputs, teacher, batch = step.outputs(batch)
    texts = [table.collection.documents[row] for row in batch.document_rows.tolist()]
    expected = []
    for n, made in zip((16, 8, 4), (outputs, *outputs.cuts), strict=True):
        shortened = SentenceTransformer(student_folder, device="cpu", truncate_dim=n)
        np.testing.assert_allclose(
            made.documents.vectors.detach(), shortened.encode(texts, normalize_embeddings=True), atol=1e-5
        )
        queries, documents = first(outputs.queries.vectors, n), first(outputs.documents.vectors, n)
        scores = 20 * queries @ documents.T
        alone = Outputs(scores.gather(1, batch.index), scores)
        expected.append(value_of(LOSS, alone, teacher, batch))
    assert len({round(x.item(), 4) for x in expected}) == 3
    torch.testing.assert_close(step.compare(outputs, teacher, batch), sum(expected) / 3)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_an_index_is_cut_as_sentence_transformers_cuts(student_folder, collection, similarity):
    model = SentenceTransformer(student_folder, device="cpu", similarity_fn_name=similarity)
    short = SentenceTransformer(student_folder, device="cpu", similarity_fn_name=similarity, truncate_dim=4)
    found = index_of(model, collection.documents).cut(4)
    expected = short.similarity(
        short.encode_query(list(collection.queries)), short.encode_document(list(collection.documents))
    ).numpy()
    rows, scores = found.search(collection.queries, 5)
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :5], rtol=1e-3)
    np.testing.assert_allclose(np.take_along_axis(expected, rows, axis=1), scores, rtol=1e-3)
    owners, places = np.divmod(np.arange(expected.size), expected.shape[1])
    np.testing.assert_allclose(found.scores(collection.queries, owners, places), expected.ravel(), rtol=1e-3)


def test_static_students_are_cut_too(student_folder, table, tmp_path):
    student = static_student(student_folder, dimensions=[8, 2])
    assert student.get_embedding_dimension() == 8 and cuts_of(student) == (2,)
    trainer_of(student, table, tmp_path).train()
    again = static_student(str(save(student, tmp_path / "model")), dimensions=[8, 4])
    assert cuts_of(again) == (4,)


def save(student, path):
    student.save_pretrained(str(path), create_model_card=False)
    return path


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [([17], "17, and the model has 16"), ([0], "student.dimensions=0"), ([4.5], "student.dimensions=4.5")],
)
def test_numbers_that_cannot_be(student_folder, dimensions, message):
    with pytest.raises(InputError, match=message):
        load_student(student_folder, dimensions=dimensions)
    assert not (cache_folder() / "embeddings").exists()
