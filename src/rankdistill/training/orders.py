"""Which queries share a batch: drawn at random, or of one topic."""

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
from torch.utils.data import Sampler
from transformers import TrainingArguments

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError, check_counts, check_loaded
from rankdistill.retrieval import stored_embeddings
from rankdistill.students.load import fingerprint_of
from rankdistill.students.models import Model
from rankdistill.training.groups import TrainingGroups

ITERATIONS = 20  # of k-means


@dataclass(frozen=True)
class ClusteredOrder:
    """Batches of queries of one topic, whose documents are hard in-batch negatives (Hofstätter et al. 2021,
    TAS-B, arXiv 2104.06967, section 3).

    The embeddings that ``model`` gives queries are put into ``clusters`` by k-means. Every query comes once
    an epoch; what is left of a cluster shares a batch with the next one's. Raises ``InputError`` for fewer
    queries than clusters.
    """

    model: Model
    clusters: int = 32

    def __post_init__(self):
        check_counts(clusters=self.clusters)
        check_loaded(self.model)

    @property
    def fingerprint(self) -> str:
        return f"{fingerprint_of(self.model)} {self.clusters}"

    def labels(self, collection: Collection, query_rows: np.ndarray) -> np.ndarray:
        """int64 (n,): the cluster of each of the queries at ``query_rows``; nothing random."""
        if len(query_rows) < self.clusters:
            raise InputError(f"order.clusters={self.clusters}: there are {len(query_rows)} training queries")
        vectors = np.ascontiguousarray(stored_embeddings(self.model, collection, "query")[query_rows])
        few = max(1, len(vectors) // self.clusters)  # FAISS warns of fewer points than 39 a cluster
        clustering = faiss.Kmeans(
            vectors.shape[1], self.clusters, niter=ITERATIONS, seed=0, min_points_per_centroid=min(39, few)
        )
        clustering.train(vectors)
        return clustering.index.search(vectors, 1)[1][:, 0]


class EpochSampler(Sampler[int]):
    """Every item of ``TrainingGroups`` once an epoch, in an order drawn from (seed, epoch).

    The epoch travels within the item's number, so that no worker holds state that grows stale. With
    ``labels`` int64 (size,) the items of a label come together, in batches of ``batch`` whose order is drawn.
    """

    def __init__(self, size: int, seed: int, labels: np.ndarray | None = None, batch: int = 1):
        self.size, self.seed, self.epoch = size, seed, 0
        self.labels, self.batch = labels, batch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.size)
        if self.labels is not None:
            ranks = rng.permutation(self.labels.max() + 1)  # which cluster is a cluster's neighbour
            order = order[np.argsort(ranks[self.labels[order]], kind="stable")]
            whole = self.size // self.batch
            batches = order[: whole * self.batch].reshape(whole, self.batch)
            order = np.concatenate([rng.permutation(batches).ravel(), order[whole * self.batch :]])
        return iter((self.epoch * self.size + order).tolist())


def sampler_of(groups: TrainingGroups, args: TrainingArguments, order: ClusteredOrder | None) -> EpochSampler:
    """What ``groups`` come in; those of a topic share the batches that processes see together."""
    if order is None:
        return EpochSampler(len(groups), args.seed)
    rows = groups.table.candidates.query_rows[groups.queries]
    labels = order.labels(groups.table.collection, rows)
    return EpochSampler(len(groups), args.seed, labels, args.per_device_train_batch_size * args.world_size)
