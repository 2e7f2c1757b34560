"""A batch of embeddings, for the losses that read them."""

import torch

from rankdistill.vocabulary import Batch, Embeddings, Outputs

SCALE = 20.0


def of_the_batch(queries=3, group=4, dimensions=6, seed=0, positives=1):
    """A student's outputs and a batch: ``queries`` groups of distinct documents, the first ones positive."""
    rng = torch.Generator().manual_seed(seed)
    texts = torch.randn(queries + queries * group, dimensions, generator=rng, dtype=torch.float64)
    texts = torch.nn.functional.normalize(texts, dim=1).requires_grad_()
    q, d = texts[:queries], texts[queries:]
    rows = torch.randperm(queries * group, generator=rng)
    index = rows.view(queries, group)
    positive = torch.arange(group).expand(queries, group) < positives
    in_batch = SCALE * q @ d.T
    negatives = torch.ones(queries, queries * group, dtype=torch.bool).scatter(1, index, False)
    batch = Batch(
        torch.arange(queries),
        torch.arange(queries * group),
        index,
        positive,
        torch.ones_like(positive),
        {},
        negatives=negatives,
    )
    student = Outputs(in_batch.gather(1, index), in_batch, Embeddings(q), Embeddings(d), scale=SCALE)
    return student, Outputs(torch.zeros(queries, group)), batch, texts


def vectors(student, batch):
    """Lists of the queries' vectors, of each group's documents', and of all documents'."""
    d = student.documents.vectors
    return student.queries.vectors, [[d[u] for u in row] for row in batch.index.tolist()], d
