"""Product quantisation: a document is the numbers of the centroids that are nearest to its parts.

Jégou et al. 2011 (10.1109/TPAMI.2010.57); with a rotation before it, Ge et al. 2013 (OPQ). FAISS trains both,
and searches indexes however they were trained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import faiss
import numpy as np

from rankdistill.errors import InputError
from rankdistill.retrieval.faiss_search import NEAR
from rankdistill.retrieval.ties import best_ranked, check_exact

SAMPLE = 100_000  # documents that codebooks begin with at most
BITS = 8  # of a code at most: 256 centroids


@dataclass(frozen=True)
class ProductQuantiser:
    """Codebooks float32 (M, K, d / M), K = 2^bits, and an orthogonal rotation float32 (d, d) before, if any.

    Part m of the rotated vector R x is replaced by the centroid of codebook m that is nearest to it.
    """

    codebooks: np.ndarray
    rotation: np.ndarray | None = None

    @property
    def dimensions(self) -> int:
        return self.codebooks.shape[0] * self.codebooks.shape[2]

    @property
    def bits(self) -> int:
        return self.codebooks.shape[1].bit_length() - 1

    def rotate(self, vectors: np.ndarray) -> np.ndarray:
        """R x of each of ``vectors``, float32 (n, d); inner products stay what they are."""
        return vectors if self.rotation is None else np.ascontiguousarray(vectors @ self.rotation.T)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """The numbers of the nearest centroids, int64 (n, M), of ``vectors`` float32 (n, d)."""
        packed = self._faiss().compute_codes(np.ascontiguousarray(self.rotate(vectors), np.float32))
        return unpacked(packed, len(self.codebooks), self.bits)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The rotated vectors as ``codes`` int64 (n, M) have them, float32 (n, d)."""
        parts = self.codebooks[np.arange(len(self.codebooks)), codes]
        return parts.reshape(len(codes), self.dimensions)

    def index(self, codes: np.ndarray) -> faiss.Index:
        """A FAISS index, by inner product, of the documents with ``codes`` int64 (n, M)."""
        flat = faiss.IndexPQ(self.dimensions, len(self.codebooks), self.bits, faiss.METRIC_INNER_PRODUCT)
        flat.pq, flat.is_trained = self._faiss(), True
        flat.add_sa_codes(packed(codes, self.bits))
        if self.rotation is None:
            return flat
        rotation = faiss.LinearTransform(self.dimensions, self.dimensions)
        faiss.copy_array_to_vector(np.ascontiguousarray(self.rotation, np.float32).ravel(), rotation.A)
        rotation.is_trained = True
        rotation.set_is_orthonormal()
        whole = faiss.IndexPreTransform(rotation, flat)
        for part in (rotation, flat):  # Python would free them
            part.this.disown()  # type: ignore[union-attr]
        whole.own_fields = True
        return whole

    def with_codebooks(self, codebooks: np.ndarray) -> "ProductQuantiser":
        return replace(self, codebooks=np.ascontiguousarray(codebooks, np.float32))

    def _faiss(self) -> faiss.ProductQuantizer:
        quantiser = faiss.ProductQuantizer(self.dimensions, len(self.codebooks), self.bits)
        faiss.copy_array_to_vector(
            np.ascontiguousarray(self.codebooks, np.float32).ravel(), quantiser.centroids
        )
        return quantiser


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """``codes`` int64 (n, M) as FAISS stores them: uint8 (n, ceil(M bits / 8)), the lowest bit first."""
    each = (codes[:, :, None] >> np.arange(bits)) & 1
    return np.packbits(each.reshape(len(codes), -1).astype(np.uint8), axis=1, bitorder="little")


def unpacked(stored: np.ndarray, parts: int, bits: int) -> np.ndarray:
    """The inverse of ``packed``: int64 (n, ``parts``)."""
    each = np.unpackbits(stored, axis=1, bitorder="little")[:, : parts * bits]
    return each.reshape(len(stored), parts, bits).astype(np.int64) @ (1 << np.arange(bits))


def product_quantiser(
    documents: np.ndarray, parts: int, bits: int = BITS, rotated: bool = False
) -> ProductQuantiser:
    """FAISS's own, trained on ``documents`` float32 (D, d), or a sample: of the least squared error.

    ``rotated``: with the rotation that FAISS's OPQ finds. Raises ``InputError``, naming fields of
    ``rankdistill quantise``, for sizes that do not fit.
    """
    count, dimensions = documents.shape
    if not 1 <= bits <= BITS:
        raise InputError(f"bits={bits}: it must be from 1 to {BITS}, the bits of a centroid's number")
    if parts < 1 or dimensions % parts:
        fits = ", ".join(str(n) for n in range(1, dimensions + 1) if dimensions % n == 0)
        raise InputError(f"parts={parts}: the model's {dimensions} dimensions are cut in parts alike: {fits}")
    if count < 1 << bits:
        raise InputError(f"bits={bits}: {1 << bits} centroids, and there are {count} documents; give fewer")
    some = np.sort(np.random.default_rng(0).permutation(count)[:SAMPLE])
    sample = np.ascontiguousarray(documents[some])
    rotation = None
    if rotated:
        if len(sample) < dimensions:  # FAISS would write past the end of an array
            raise InputError(
                f"quantisers: OPQ's rotation of {dimensions} dimensions needs as many documents, and there "
                f"are {count}; leave opq, distill_vq and jpq out (null), or take a model of fewer dimensions"
            )
        opq = faiss.OPQMatrix(dimensions, parts)
        opq.pq = quiet = faiss.ProductQuantizer(dimensions, parts, bits)
        quiet.cp.min_points_per_centroid = 1
        opq.train(sample)
        rotation = faiss.vector_to_array(opq.A).reshape(dimensions, dimensions)
    quantiser = ProductQuantiser(np.zeros((parts, 1 << bits, dimensions // parts), np.float32), rotation)
    trained = faiss.ProductQuantizer(dimensions, parts, bits)
    trained.cp.min_points_per_centroid = 1  # else a line on the screen for each part
    trained.train(quantiser.rotate(sample))
    return quantiser.with_codebooks(
        faiss.vector_to_array(trained.centroids).reshape(quantiser.codebooks.shape)
    )


@dataclass(frozen=True)
class FaissIndex:
    """A FAISS index that is there already, by inner product; ``embed`` makes float32 (Q, d) of queries."""

    built: faiss.Index
    embed: Callable[[Sequence[str]], np.ndarray]
    vectors: None = None

    def __len__(self) -> int:
        return self.built.ntotal

    def search(
        self,
        queries: Sequence[str],
        k: int,
        ids: Sequence[str] | None = None,
        own: np.ndarray | None = None,
        index: str = "Flat",
        parameters: Mapping[str, float] | None = None,
        field: str = "evaluator",
    ) -> tuple[np.ndarray, np.ndarray]:
        check_exact("a FAISS index is searched as it is, and takes", index, parameters, field)
        vectors = self.embed(queries)
        near = NEAR * np.linalg.norm(vectors, axis=1)

        def find(some: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
            return self.built.search(vectors[some], n)

        return best_ranked(find, len(queries), len(self), min(k, len(self)), ids, own, near)

    def scores(self, queries: Sequence[str], owners: np.ndarray, rows: np.ndarray) -> np.ndarray:
        vectors = self.built.reconstruct_batch(rows)
        return np.einsum("nd,nd->n", self.embed(queries)[owners], vectors)

    def active(self, queries: Sequence[str]) -> dict[str, float]:
        return {}
