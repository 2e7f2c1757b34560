"""Embedding a collection and searching it with FAISS."""

import logging
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.lib.format import open_memmap
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device, truncate_embeddings
from tqdm.auto import tqdm

from rankdistill import processes
from rankdistill.chunking import by_length, chunks, tokens_at_once
from rankdistill.data.cache import (
    cache_folder,
    draft_of,
    fingerprint,
    map_npy,
    once,
    seal,
    sealed,
    sync,
    writing,
)
from rankdistill.data.collection import Collection
from rankdistill.data.pruning import embeddings_limit, limit_embeddings
from rankdistill.errors import InputError
from rankdistill.hardware import autocast, has_bf16
from rankdistill.packing import first_position, packed
from rankdistill.students import fingerprint_of
from rankdistill.students.prompts import prompt_of

log = logging.getLogger(__name__)
BAR_FROM = 1000  # texts; fewer are embedded within seconds
WINDOW = 2_000  # texts tokenised and sorted at a time
BLOCK = 50_000  # texts embedded at a time
SEARCH_BLOCK = 1_000_000  # documents searched, or added to an index, at a time
GPU_RESULTS = 2048  # as many as FAISS finds for a query on a GPU
SAMPLE = 1_000_000  # documents that an index is trained on at most
BEYOND = 8  # results beyond the k-th, to see what ties with it
NEAR = 4e-7  # scores that differ by less of the vectors' lengths may be of equal documents
LOWEST = np.finfo(np.float32).min  # the score of no document, as FAISS has it
RESULTS = 20_000_000  # scores and rows held at a time
LENGTHS = 10_000  # documents whose lengths are computed at a time
CHECKED = 100  # queries that say how much of the exact best an index finds, at most


def embed_queries(model: SentenceTransformer, texts: Sequence[str], progress: bool = True) -> np.ndarray:
    """float32 (Q, d), with the model's query prompt, normalised if its similarity is cosine."""
    return _embed(model, "query", texts, progress)


def embed_documents(model: SentenceTransformer, texts: Sequence[str], progress: bool = True) -> np.ndarray:
    """float32 (D, d), with the model's document prompt, normalised if its similarity is cosine."""
    return _embed(model, "document", texts, progress)


def _embed(model: SentenceTransformer, kind: str, texts: Sequence[str], progress: bool) -> np.ndarray:
    if model.similarity_fn_name not in (None, "cosine", "dot"):
        raise InputError(
            f"model: it compares by {model.similarity_fn_name}, and documents are ranked by cosine or dot "
            "product; set its similarity_fn_name if these serve as well"
        )
    first = first_position(model)
    progress = progress and len(texts) >= BAR_FROM
    with autocast(model.device):
        if first is None:
            encode = model.encode_query if kind == "query" else model.encode_document
            embeddings = encode(list(texts), batch_size=64, show_progress_bar=progress)
        else:
            embeddings = _embed_packed(model, kind, texts, first, progress)
    embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
    if not np.isfinite(embeddings).all():
        bad = int(np.flatnonzero(~np.isfinite(embeddings).all(axis=1))[0])
        raise InputError(
            f"model: its embedding of {texts[bad][:60]!r} is not finite: damaged, or training diverged"
        )
    if model.similarity_fn_name == "cosine":
        faiss.normalize_L2(embeddings)
    return embeddings


@torch.inference_mode()
def _embed_packed(
    model: SentenceTransformer, kind: str, texts: Sequence[str], first: int, progress: bool
) -> np.ndarray:
    """Embeddings float32 (n, d) of texts without padding, longest first within a window of texts."""
    model.eval()
    budget = tokens_at_once(model.device)
    embeddings = np.empty((len(texts), model.get_embedding_dimension()), dtype=np.float32)
    bar = tqdm(total=len(texts), desc="embedding", unit="text", disable=not progress)
    with bar, packed(model):
        for start in range(0, len(texts), WINDOW):
            some = list(texts[start : start + WINDOW])
            features = dict(model.preprocess(some, prompt=prompt_of(model, kind), task=kind))
            for rows, chunk in chunks(features, by_length(features), budget, first):
                found = model(batch_to_device(chunk, model.device), task=kind)["sentence_embedding"]
                found = truncate_embeddings(found, model.truncate_dim)
                embeddings[start + rows.numpy()] = found.float().cpu().numpy()
                bar.update(len(rows))
    return embeddings


def stored_embeddings(model: SentenceTransformer, collection: Collection) -> np.ndarray:
    """``embed_documents`` of the whole collection, cached by the model's weights; float32 (D, d).

    Memory-mapped, and written block by block, so that it may be larger than memory. The processes of
    a job share the work. Those that were used longest ago go when all take more than
    RANKDISTILL_CACHE_LIMIT.
    """
    key = fingerprint(collection.fingerprint, fingerprint_of(model), has_bf16())
    path = processes.broadcast(cache_folder() / "embeddings" / f"{key}.npy")
    with once(path) as missing:
        if not missing:
            log.info("reusing embeddings %s", path)
        else:
            most = embeddings_limit()
            log.info("embedding %d documents of %s", len(collection.documents), collection.name)
            draft = processes.broadcast(draft_of(path))
            try:
                _embed_into(draft, model, collection.documents)
                if processes.is_main():
                    sync(draft)
                    draft.rename(path)
                    seal(path, f"{collection.name}, {len(collection.documents):,} documents")
            finally:
                if processes.is_main():
                    draft.unlink(missing_ok=True)
    embeddings = _open(path, (len(collection.documents), model.get_embedding_dimension()))
    if missing and processes.is_main():
        limit_embeddings(most)  # these are in use now
    return embeddings


def _open(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """The embeddings at ``path``, memory-mapped; raises ``InputError`` unless finite float32 of ``shape``."""
    trusted = sealed(path)
    try:
        embeddings = map_npy(path)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it to build it again") from None
    found = embeddings.shape, embeddings.dtype
    if found != (shape, np.float32):
        raise InputError(f"{path}: damaged ({found[0]} {found[1]}, not {shape}); delete it to build it again")
    if not trusted:
        if not all(np.isfinite(embeddings[i : i + BLOCK]).all() for i in range(0, len(embeddings), BLOCK)):
            raise InputError(f"{path}: damaged (numbers that are not finite); delete it to build it again")
        seal(path)
    return embeddings


def passing_embeddings(model: SentenceTransformer, texts: Sequence[str]) -> np.ndarray:
    """``embed_documents``, the processes of a job sharing the work; nothing is kept."""
    if processes.count() == 1:
        return embed_documents(model, texts)
    file = processes.broadcast(cache_folder() / "embeddings" / f".{uuid.uuid4().hex}.npy")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        _embed_into(file, model, texts)
    embeddings = np.load(file, mmap_mode="r", allow_pickle=False)
    processes.wait()  # until all have opened it; what is mapped stays
    if processes.is_main():
        file.unlink()
    return embeddings


def _embed_into(file: Path, model: SentenceTransformer, texts: Sequence[str]) -> None:
    """Writes ``embed_documents`` of ``texts`` to the .npy ``file``, each process a share of the blocks."""
    if processes.is_main():
        width = model.get_embedding_dimension()
        open_memmap(file, mode="w+", dtype=np.float32, shape=(len(texts), width)).flush()
        if hasattr(os, "posix_fallocate"):  # a full disk shows now, not as a fault of memory
            with open(file, "r+b") as made:
                os.posix_fallocate(made.fileno(), 0, file.stat().st_size)
    processes.wait()
    embeddings = open_memmap(file, mode="r+")
    size = min(BLOCK, -(-len(texts) // processes.count()))
    starts = range(0, len(texts), size)[processes.rank() :: processes.count()]
    for start in tqdm(
        starts, desc="embedding", unit="block", disable=len(starts) < 2 or not processes.is_main()
    ):
        block = texts[start : start + size]
        embeddings[start : start + size] = embed_documents(model, block, progress=len(starts) < 2)
    embeddings.flush()
    processes.wait()


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
    if index == "Flat":
        if parameters:
            raise InputError(
                f"{field}.search={dict(parameters)}: index=Flat has no such parameter; it is exact"
            )
        return _ranked(partial(_search_blocks, documents), documents, queries, k, True, ids, own)
    try:
        if re.search(r"[A-Z]0(?!\d)", index):  # HNSW0 ends the whole process
            raise RuntimeError("Error: a parameter of 0")
        built = faiss.index_factory(documents.shape[1], index, faiss.METRIC_INNER_PRODUCT)
        _set(built, parameters or {}, index, field)
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
        raise InputError(
            f"{field}.index={index!r}: FAISS refuses it ({_reason(error)}); such as Flat, HNSW32, IVF64,Flat"
        ) from None
    _say_what_is_found(rows, documents, queries, index, ids, own, field)
    return rows, scores


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
    found = sum(
        np.intersect1d(best[best >= 0], given).size for best, given in zip(exact, rows[some], strict=True)
    )
    share = found / max(wanted, 1)
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

    def settle(query: int, rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
        vectors = documents[rows]
        if exact:  # row by row, whatever stands beside it
            return np.einsum("nd,d->n", vectors.astype(np.float64), queries[query].astype(np.float64))
        alike: dict[bytes, float] = {}
        return [alike.setdefault(v.tobytes(), s) for v, s in zip(vectors, scores, strict=True)]

    tolerance = NEAR * np.linalg.norm(queries, axis=1) * _longest(documents)
    return best_ranked(
        lambda some, n: find(queries[some], n), len(queries), len(documents), k, ids, own, tolerance, settle
    )


def best_ranked(
    find: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]],
    queries: int,
    documents: int,
    k: int,
    ids: Sequence[str] | None = None,
    own: np.ndarray | None = None,
    tolerance: np.ndarray | None = None,
    settle: Callable[[int, np.ndarray, np.ndarray], Sequence[float]] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` best of so many ``documents`` for each of so many ``queries``: rows and scores (Q, k).

    ``find(some, n)`` gives scores float32 and rows (len(some), n) of those queries, best first, -1 at the end
    where there are fewer; which of equal scores and in what order does not matter. Here equal scores are
    ordered by ``ids`` (by row without). A few more than k are looked at, and more again for those queries
    alone whose k-th score ties with the last. ``own``: see ``search``. Scores that differ by ``tolerance``
    (Q,) at most may be equal; ``settle(query, rows, scores)`` says what they are.
    """
    rows = np.full((queries, k), -1, dtype=np.int64)
    scores = np.full((queries, k), LOWEST)
    tolerance = np.zeros(queries) if tolerance is None else tolerance
    left, width = np.arange(queries), min(k + BEYOND, documents)
    while len(left):
        again = []
        at_once = max(1, RESULTS // width)
        for start in range(0, len(left), at_once):
            some = left[start : start + at_once]
            found, where = find(some, width)
            last, full = found[:, -1], where[:, -1] >= 0
            if own is not None:
                found, where = _without(found, where, own[some])
            near = tolerance[some]
            tied = full & (found[:, k - 1] - last <= near) & (width < documents)
            again.append(some[tied])
            close = (found[:, :-1] - found[:, 1:] <= near[:, None]) & (where[:, 1:] >= 0)
            for i in np.flatnonzero(close.any(axis=1) & ~tied):
                n = np.count_nonzero(where[i] >= 0)
                found[i, :n], where[i, :n] = _ordered(
                    int(some[i]), where[i, :n], found[i, :n], close[i, : n - 1], ids, settle
                )
            scores[some], rows[some] = found[:, :k], where[:, :k]
        left, width = np.concatenate(again), min(4 * width, documents)
    return rows, scores


def _ordered(query: int, rows, scores, close, ids, settle) -> tuple[np.ndarray, np.ndarray]:
    """``scores`` and ``rows`` (n,) of a query by the tie rule; ``close`` (n - 1,): as good as the next.

    Only those that are change places, each within its run.
    """
    near = np.flatnonzero(np.append(close, False) | np.append(False, close))
    some, values = rows[near], scores[near]
    if settle is not None:
        values = np.asarray(settle(query, some, values), dtype=np.float32)
    keys = some.tolist() if ids is None else [ids[row] for row in some.tolist()]
    order = [i for *_, i in sorted(zip((-values).tolist(), keys, range(len(keys)), strict=True))]
    rows, scores = rows.copy(), scores.copy()
    rows[near], scores[near] = some[order], values[order]
    return scores, rows


def _without(scores: np.ndarray, rows: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``scores`` and ``rows`` (Q, n) without the row ``own`` (Q,): in its place -1, at the end."""
    mine = (rows == own[:, None]) & (rows >= 0)
    scores = np.where(mine, LOWEST, scores)
    order = np.argsort(mine, axis=1, kind="stable")
    return tuple(np.take_along_axis(x, order, axis=1) for x in (scores, np.where(mine, -1, rows)))


def _longest(documents: np.ndarray) -> float:
    """The greatest length of a document's vector."""
    starts = range(0, len(documents), LENGTHS)
    blocks = (documents[start : start + LENGTHS] for start in starts)
    return float(np.sqrt(max((np.einsum("nd,nd->n", x, x).max() for x in blocks), default=0.0)))


def _search_blocks(documents: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The exact ``k`` best scores and rows, keeping the best of the blocks seen so far."""
    rows = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
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
