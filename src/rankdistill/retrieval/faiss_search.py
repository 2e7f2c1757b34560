"""Searching vectors with FAISS."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import faiss
import numpy as np

from rankdistill.errors import InputError
from rankdistill.retrieval.ties import BEYOND, best_ranked

log = logging.getLogger(__name__)
SEARCH_BLOCK = 1_000_000  # documents searched, or added to an index, at a time
GPU_RESULTS = 2048  # as many as FAISS finds for a query on a GPU
SAMPLE = 1_000_000  # documents that an index is trained on at most
NEAR = 4e-7  # scores that differ by less of the vectors' lengths may be of equal documents
LENGTHS = 10_000  # documents whose lengths are computed at a time
LEAST = {"HNSW": 2, "NSG": 8}  # neighbours in a graph; with fewer FAISS crashes, or never ends
CHECKED = 100  # queries that say how much of the exact best an index finds, at most


def search(
    documents: np.ndarray,
    queries: np.ndarray,
    k: int,
    index: str = "Flat",
    parameters: Mapping[str, float] | None = None,
    ids: Sequence[str] | None = None,
    own: np.ndarray | None = None,
    field: str = "evaluator",
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` best documents of each query by inner product: rows int64 and scores float32 (Q, k).

    Best first, equal scores by ``ids`` ascending (by row without), whatever FAISS makes of them: which of
    the documents that tie with the k-th are among the k too. ``own`` int64 (Q,) is a row to leave out for
    each query, or -1.

    ``index`` is any FAISS ``index_factory`` string, trained on a sample of the documents if it must be,
    and ``parameters`` what it is searched with (``nprobe``, ``efSearch``, ``k_factor``). ``Flat`` builds
    none: it goes through the documents block by block, which may be larger than memory. Of any other index
    the log says how much of the exact k best it finds. A FAISS with GPU support searches on the GPUs there
    are, if they take the index (HNSW stays behind). Where an index finds fewer than k, the row is -1.

    Raises ``InputError``, under the name ``field``, for an index or a parameter that FAISS rejects.
    """
    k = min(k, len(documents))
    built = faiss_index(documents.shape[1], index, parameters, field)
    if built is None:
        return _ranked(partial(_search_blocks, documents), documents, queries, k, True, ids, own)
    try:
        if not built.is_trained:
            some = np.random.default_rng(0).permutation(len(documents))[:SAMPLE]
            built.train(np.ascontiguousarray(documents[np.sort(some)]))
        for start in range(0, len(documents), SEARCH_BLOCK):
            built.add(np.ascontiguousarray(documents[start : start + SEARCH_BLOCK]))
        moved = _on_gpus(built, k + BEYOND)

        def find(queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
            return (moved if n <= GPU_RESULTS else built).search(queries, n)

        rows, scores = _ranked(find, documents, queries, k, False, ids, own)
    except RuntimeError as error:
        raise _refused(error, index, field) from None
    _say_what_is_found(rows, documents, queries, index, ids, own, field)
    return rows, scores


def faiss_index(
    dimensions: int, index: str, parameters: Mapping[str, float] | None = None, field: str = "evaluator"
) -> faiss.Index | None:
    """An empty ``index`` that is searched with ``parameters``; None for Flat, which needs none.

    Raises ``InputError``, under the name ``field``, for what FAISS rejects.
    """
    if not isinstance(index, str):
        raise InputError(f"{field}.index={index!r}: it must be a text, such as Flat, HNSW32, IVF64,Flat")
    if index == "Flat":
        if parameters:
            raise InputError(
                f"{field}.search={dict(parameters)}: index=Flat has no such parameter; it is exact"
            )
        return None
    try:
        if re.search(r"[A-Z]0(?!\d)", index):  # HNSW0 ends the whole process
            raise RuntimeError("Error: a parameter of 0")
        for graph, neighbours in re.findall(r"(HNSW|NSG)(\d+)", index):
            if int(neighbours) < LEAST[graph]:
                raise RuntimeError(f"Error: {graph} needs {LEAST[graph]} neighbours or more")
        built = faiss.index_factory(dimensions, index, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise _refused(error, index, field) from None
    _set(built, parameters or {}, index, field)
    return built


def _refused(error: RuntimeError, index: str, field: str) -> InputError:
    return InputError(
        f"{field}.index={index!r}: FAISS refuses it ({_reason(error)}); such as Flat, HNSW32, IVF64,Flat"
    )


def _set(built: faiss.Index, parameters: Mapping[str, float], index: str, field: str) -> None:
    for name, value in parameters.items():
        try:
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
                raise RuntimeError("Error: a number of 1 or more is expected")
            refines = isinstance(faiss.downcast_index(built), faiss.IndexRefine)
            known = "k_factor_rf" if name == "k_factor" and refines else name  # as FAISS calls RFlat's
            faiss.ParameterSpace().set_index_parameter(built, known, value)
        except RuntimeError as error:
            raise InputError(
                f"{field}.search: {name}={value}: index={index} does not take it ({_reason(error)}); IVF has "
                "nprobe, HNSW efSearch, RFlat k_factor"
            ) from None


def _reason(error: RuntimeError) -> str:
    return str(error).split("Error:")[-1].strip().split("\n")[0]


def _say_what_is_found(rows, documents, queries, index, ids, own, field: str) -> None:
    """Logs how many of the exact best documents are in ``rows`` (Q, k), by a sample of the queries."""
    if not rows.size:
        return
    some = np.unique(np.linspace(0, len(queries) - 1, CHECKED).astype(int))
    own = None if own is None else own[some]
    exact, _ = search(documents, queries[some], rows.shape[1], ids=ids, own=own)
    wanted = sum(np.count_nonzero(best >= 0) for best in exact)
    hits = sum(
        np.intersect1d(best[best >= 0], approximate).size
        for best, approximate in zip(exact, rows[some], strict=True)
    )
    share = hits / max(wanted, 1)
    log.log(
        logging.WARNING if share < 0.9 else logging.INFO,
        "%s.index=%s finds %.1f %% of the %d best documents (by %d queries, against index=Flat); more with "
        "%s.search={nprobe:...} of IVF, efSearch of HNSW, k_factor of RFlat",
        field,
        index,
        100 * share,
        rows.shape[1],
        len(some),
        field,
    )


def _ranked(
    find: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]],
    documents: np.ndarray,
    queries: np.ndarray,
    k: int,
    exact: bool,
    ids: Sequence[str] | None,
    own: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """``best_ranked`` of ``find(queries, n)``, whose scores of equal documents differ in the last bits.

    One matrix product does that, by their place. Scores as near as that are computed again (``exact``), or
    taken for equal where the documents are.
    """

    def settle(query: int, rows: np.ndarray, scores: np.ndarray) -> Sequence[float] | np.ndarray:
        vectors = documents[rows]
        if exact:  # row by row, whatever its neighbours
            return np.einsum("nd,d->n", vectors.astype(np.float64), queries[query].astype(np.float64))
        alike: dict[bytes, float] = {}
        return [alike.setdefault(v.tobytes(), s) for v, s in zip(vectors, scores, strict=True)]

    tolerance = NEAR * np.linalg.norm(queries, axis=1) * _longest(documents)
    return best_ranked(
        lambda some, n: find(queries[some], n), len(queries), len(documents), k, ids, own, tolerance, settle
    )


def _longest(documents: np.ndarray) -> float:
    """The greatest length of a document's vector."""
    starts = range(0, len(documents), LENGTHS)
    blocks = (documents[start : start + LENGTHS] for start in starts)
    return float(np.sqrt(max((np.einsum("nd,nd->n", x, x).max() for x in blocks), default=0.0)))


def _search_blocks(documents: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The exact ``k`` best scores and rows, keeping the best of the blocks seen so far."""
    rows: np.ndarray = np.empty((len(queries), 0), np.int64)
    scores: np.ndarray = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(documents), SEARCH_BLOCK):
        block = np.ascontiguousarray(documents[start : start + SEARCH_BLOCK])
        found, where = _best(queries, block, min(k, len(block)))
        scores, rows = np.hstack([scores, found]), np.hstack([rows, where + start])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, rows = (np.take_along_axis(x, order, axis=1) for x in (scores, rows))
    return scores, rows


def _best(queries: np.ndarray, documents: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The exact ``k`` best scores and rows of documents that fit into memory."""
    if not faiss.get_num_gpus():
        return faiss.knn(queries, documents, k, faiss.METRIC_INNER_PRODUCT)  # builds no index
    index = _on_gpus(faiss.IndexFlatIP(documents.shape[1]), k)
    index.add(documents)
    return index.search(queries, k)


def _on_gpus(index: faiss.Index, k: int) -> faiss.Index:
    """``index`` on the GPUs that FAISS sees, if there are any and they take it and so many results."""
    if not faiss.get_num_gpus() or k > GPU_RESULTS:
        return index
    try:
        return faiss.index_cpu_to_all_gpus(index)
    except RuntimeError as error:
        log.info("searching on the CPU: %s", _reason(error))
        return index
