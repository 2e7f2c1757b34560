"""How close together the documents of a pool or group are, after arXiv 2505.21058."""

from collections.abc import Mapping
from typing import Any, cast

import faiss
import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist
from scipy.special import gammaln

from rankdistill.analysis.per_query import offered, shown_table
from rankdistill.errors import InputError
from rankdistill.retrieval import embed_documents
from rankdistill.scores.table import ScoreTable
from rankdistill.students.models import BiEncoderModel

BLOCK = 1024  # points whose neighbours are measured at a time


def diameter(embeddings: np.ndarray, quantile: float = 0.99, metric: str = "euclidean") -> float:
    """The ``quantile`` of the distances between any two of ``embeddings`` (n, d); NaN of fewer than two.

    ``metric`` is any of scipy's ``pdist``: two orthogonal unit vectors are 1 apart by ``cosine``, the root of
    2 by ``euclidean``.
    """
    if not 0 <= quantile <= 1:
        raise InputError(f"quantile={quantile}: it must be between 0 and 1")
    if len(embeddings) < 2:
        return float("nan")
    return float(np.quantile(pdist(np.asarray(embeddings, dtype=np.float64), cast(Any, metric)), quantile))


def neighbour_distances(embeddings: np.ndarray, k: int) -> np.ndarray:
    """Euclidean distances of each of ``embeddings`` (N, d) to its ``k`` nearest others, ascending (N, k).

    Exact, in time that grows with N squared. Raises ``InputError`` unless there are more than ``k``.
    """
    if not 1 <= k < len(embeddings):
        raise InputError(
            f"k={k} neighbours of {len(embeddings)} documents: it must be 1 or more, and fewer than these"
        )
    points = np.ascontiguousarray(embeddings, dtype=np.float32)
    distances = []
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        _, rows = faiss.knn(block, points, k + 1)
        gaps = block[:, None].astype(np.float64) - points[rows]  # faiss's are inexact close by
        distances.append(np.sort(np.sqrt(np.square(gaps).sum(axis=2)), axis=1)[:, 1:])  # the first is itself
    return np.concatenate(distances)


def intrinsic_dimension(embeddings: np.ndarray) -> float:
    """The two-NN estimate of the dimension of the manifold that ``embeddings`` (N, d) lie on.

    With mu the ratio of a point's distances to its second and first neighbour, log mu is exponential with
    the dimension as its rate (Facco et al. 2017), estimated by maximum likelihood: N / sum(log mu).
    Repeated points count once. Raises ``InputError`` of fewer than three different ones.
    """
    distances = neighbour_distances(np.unique(embeddings, axis=0), 2)
    return float(1 / np.log(distances[:, 1] / distances[:, 0]).mean())


def log_density(embeddings: np.ndarray, k: int = 10, dimension: float | None = None) -> np.ndarray:
    """The natural logarithm of the k-NN density at each of ``embeddings`` (N, d), float64 (N,).

    The density is k / (N V r^D), r the distance to the ``k``-th neighbour, V the volume of the unit ball in D
    dimensions, by default ``intrinsic_dimension``. Infinite where k others are the same.
    """
    radius = neighbour_distances(embeddings, k)[:, -1]
    size = intrinsic_dimension(embeddings) if dimension is None else dimension
    log_volume = size / 2 * np.log(np.pi) - gammaln(size / 2 + 1)
    with np.errstate(divide="ignore"):
        return np.log(k) - np.log(len(embeddings)) - log_volume - size * np.log(radius)


def locality(
    table: ScoreTable,
    model: BiEncoderModel | None,
    samplers: Mapping[str, object],
    documents: np.ndarray | None = None,
    *,
    quantile: float = 0.99,
    metric: str = "euclidean",
    k: int | None = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Diameter and density of every query's ``pool``, and of the group that each of ``samplers`` shows of it.

    A row for each sampler (and ``pool``) and query id: ``diameter``, and ``log_density``, the median over its
    documents of the density among all documents of the pools (not with ``k=None``: it takes time that grows
    with their number squared). ``model`` embeds each document once; ``documents`` (D, d) are the whole
    collection's embeddings where they are there already (``retrieval.stored_embeddings``).
    """
    rows = np.unique(table.candidates.document_rows)
    if documents is None:
        embeddings = embed_documents(
            cast(BiEncoderModel, model), [table.collection.documents[row] for row in rows]
        )
    else:
        embeddings = documents[rows]
    density = None if k is None else log_density(embeddings, k)
    tables = {"pool": offered(table)} | {
        name: shown_table(table, each, seed) for name, each in samplers.items()
    }
    measures = {}
    for name, each in tables.items():
        for i, query_row in enumerate(each.candidates.query_rows):
            at = np.searchsorted(rows, each.pool(i)[0])
            values = {"diameter": diameter(embeddings[at], quantile, metric)}
            if density is not None:
                values["log_density"] = float(np.median(density[at]))
            measures[name, table.collection.query_ids[query_row]] = values
    frame = pd.DataFrame.from_dict(measures, orient="index").rename_axis(["sampler", "query_id"])
    frame.attrs |= {"metric": metric, "quantile": quantile}  # for the plot's label
    return frame
