"""Where sentence-transformers defines the same loss, values and gradients are the same."""

import pytest
import torch
from sentence_transformers.cross_encoder.losses import ListNetLoss
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.util import dot_score
from torch import nn

from rankdistill.losses import InfoNCE, KLDivergence, MarginMSE

MODEL = nn.Sequential(nn.Identity())  # hands back the embeddings it is given


@pytest.fixture
def embeddings():
    """Queries, then G = 4 columns of documents, each (B=5, d=8)."""
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(5, 8, generator=rng, dtype=torch.float64).requires_grad_() for _ in range(5)]


@pytest.fixture
def teacher():
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3


def group(embeddings):
    """The student's scores (B, G), the first document positive."""
    query, *documents = embeddings
    student = torch.stack([(query * document).sum(dim=1) for document in documents], dim=1)
    positive = torch.zeros(student.shape, dtype=torch.bool)
    positive[:, 0] = True
    return student, positive, torch.ones_like(positive)


def assert_same(ours, theirs, embeddings):
    torch.testing.assert_close(ours, theirs)
    expected = torch.autograd.grad(ours, embeddings, retain_graph=True)
    theirs.backward()  # not autograd.grad: the cached loss works in a hook
    for embedding, gradient in zip(embeddings, expected, strict=True):
        torch.testing.assert_close(embedding.grad, gradient)


def features(embeddings):
    return [{"sentence_embedding": x} for x in embeddings]


def test_margin_mse(embeddings, teacher):
    student, positive, mask = group(embeddings)
    theirs = losses.MarginMSELoss(MODEL)(features(embeddings), teacher)
    assert_same(MarginMSE()(student, teacher, positive, mask), theirs, embeddings)


@pytest.mark.parametrize(("student_temperature", "teacher_temperature"), [(1.0, 1.0), (2.0, 2.0), (0.7, 3.0)])
def test_kl(embeddings, teacher, student_temperature, teacher_temperature):
    student, positive, mask = group(embeddings)
    settings = {"student_temperature": student_temperature, "teacher_temperature": teacher_temperature}
    theirs = losses.DistillKLDivLoss(MODEL, **settings)(features(embeddings), teacher)
    ours = KLDivergence(**settings, rescale=True)(student, teacher, positive, mask)
    assert_same(ours, theirs, embeddings)


@pytest.mark.parametrize("cached", [False, True])
def test_infonce_in_batch(embeddings, teacher, cached):
    """Theirs has every document of the batch as a negative; here all are distinct, none is known relevant."""
    student, positive, mask = group(embeddings)
    query, *documents = embeddings
    in_batch = query @ torch.cat(documents).T  # column after column: document u belongs to query u % 5
    serves = torch.arange(20)[None, :] % 5 != torch.arange(5)[:, None]
    loss, size = losses.MultipleNegativesRankingLoss, {}
    if cached:
        loss, size = losses.CachedMultipleNegativesRankingLoss, {"mini_batch_size": 2}
    theirs = loss(MODEL, scale=2.0, similarity_fct=dot_score, **size)(features(embeddings), None)
    ours = InfoNCE(temperature=0.5, in_batch=True)(student, teacher, positive, mask, in_batch, serves)
    assert_same(ours, theirs, embeddings)


class Written(nn.Module):
    """A cross-encoder whose logit of a pair is the number that its document says."""

    num_labels, device = 1, torch.device("cpu")

    def preprocess(self, pairs, **kwargs):
        return {"logit": torch.tensor([float(document) for _, document in pairs], dtype=torch.float64)}

    def forward(self, features):
        return {"scores": features["logit"]}


def test_infonce_is_listnet_of_one_positive(embeddings, teacher):
    """As finetune_teacher was trained before: labels of 100 and 0."""
    student, positive, mask = group(embeddings)
    texts = [[repr(score) for score in row] for row in student.tolist()]
    labels = list(positive.double() * 100)
    theirs = ListNetLoss(Written())([["q"] * 5, texts], labels)
    torch.testing.assert_close(InfoNCE()(student, teacher, positive, mask), theirs.double())
