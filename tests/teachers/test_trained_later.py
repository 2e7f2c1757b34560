"""A teacher whose model is trained after it was made is another teacher: no score of the old one stays."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from rankdistill.candidates import BM25, Dense, mine
from rankdistill.retrieval import embed_documents
from rankdistill.teachers import (
    CrossEncoderTeacher,
    DenseTeacher,
    EnsembleTeacher,
    LateInteractionTeacher,
    dense,
    score_candidates,
)

PAIRS = ["w1 w2", "w3"], ["w2 w3 w4", "w5 w3"]


def step(model):
    """Of an optimiser, in place."""
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    torch.optim.SGD(model.parameters(), lr=0.05).step()


def load(model):
    model.load_state_dict(
        {name: x + 0.1 if x.is_floating_point() else x for name, x in model.state_dict().items()}
    )


def past_the_counters(model):
    for weight in model.parameters():
        weight.data.add_(torch.linspace(-0.1, 0.1, weight.numel()).view(weight.shape).to(weight))


def shorten(model):
    model.max_seq_length = 4


TEACHERS = {
    "dense": lambda bi, cross: DenseTeacher(bi),
    "dense-object": lambda bi, cross: DenseTeacher(SentenceTransformer(bi, device="cpu")),
    "cross-encoder": lambda bi, cross: CrossEncoderTeacher(cross),
    "late-interaction": lambda bi, cross: LateInteractionTeacher(bi),
}


@pytest.mark.parametrize("change", [step, load, past_the_counters, shorten])
@pytest.mark.parametrize("kind", TEACHERS)
def test_its_fingerprint_and_scores_are_those_of_the_new_weights(
    kind, change, student_folder, cross_encoder_folder
):
    teacher, other = (TEACHERS[kind](student_folder, cross_encoder_folder) for _ in range(2))
    both = EnsembleTeacher({"a": teacher, "b": other})
    first, kept, together = teacher.score(*PAIRS), teacher.fingerprint, both.fingerprint
    assert kept == teacher.fingerprint == other.fingerprint
    change(teacher.model)
    assert teacher.fingerprint not in (kept, other.fingerprint) and both.fingerprint != together
    change(other.model)  # before it scored anything: nothing of it can be old
    assert other.fingerprint == teacher.fingerprint
    assert np.array_equal(teacher.score(*PAIRS), other.score(*PAIRS))
    assert change is shorten or not np.allclose(teacher.score(*PAIRS), first, atol=1e-4)


@pytest.mark.parametrize("change", [step, load])
@pytest.mark.parametrize("kind", ["dense", "late-interaction"])
def test_embeddings_of_the_old_weights_are_not_scored_with(kind, change, student_folder):
    """Without anybody asking for the fingerprint, as in a loop that trains and scores."""
    teacher, other = (TEACHERS[kind](student_folder, None) for _ in range(2))
    teacher.score(*PAIRS)
    for one in (teacher, other):
        change(one.model)
    assert np.array_equal(teacher.score(*PAIRS), other.score(*PAIRS))


def test_a_text_is_embedded_once_while_the_weights_stay(student_folder, monkeypatch):
    embedded = []
    monkeypatch.setattr(
        dense,
        "embed_documents",
        lambda model, texts, **_: embedded.extend(texts) or embed_documents(model, texts),
    )
    teacher = DenseTeacher(student_folder)
    for _ in range(3):
        teacher.fingerprint  # noqa: B018
        teacher.score(*PAIRS)
    assert embedded == PAIRS[1]


def test_the_cache_serves_no_score_or_candidate_of_the_old_weights(collection, student_folder):
    model = SentenceTransformer(student_folder, device="cpu")
    teacher, retriever = DenseTeacher(model), Dense(model, 5)
    pools, tables = [], []
    for _ in range(2):
        pools.append(mine(collection, [retriever]))
        tables.append(score_candidates(teacher, mine(collection, [BM25(5)])))
        step(model)
    assert pools[0].fingerprint != pools[1].fingerprint and tables[0].teacher != tables[1].teacher
    assert not np.allclose(tables[0].scores, tables[1].scores, atol=1e-3)
