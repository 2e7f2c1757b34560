"""Embedding a collection and searching it with FAISS."""

import logging
import os
import re

import faiss
import numpy as np
from sentence_transformers import SentenceTransformer

from rankdistill.data.cache import cache_folder, fingerprint, locked, seal, sealed
from rankdistill.data.collection import Collection
from rankdistill.errors import InputError
from rankdistill.hardware import autocast, has_bf16
from rankdistill.students import fingerprint_of

log = logging.getLogger(__name__)
BAR_FROM = 1000  # texts; fewer are embedded within seconds


def embed_queries(model: SentenceTransformer, texts: list[str], progress: bool = True) -> np.ndarray:
    """float32 (Q, d), with the model's query prompt, normalised if its similarity is cosine."""
    return _embed(model, model.encode_query, texts, progress)


def embed_documents(model: SentenceTransformer, texts: list[str], progress: bool = True) -> np.ndarray:
    """float32 (D, d), with the model's document prompt, normalised if its similarity is cosine."""
    return _embed(model, model.encode_document, texts, progress)


def _embed(model, encode, texts, progress) -> np.ndarray:
    with autocast(model.device):
        embeddings = encode(list(texts), batch_size=64, show_progress_bar=progress and len(texts) >= BAR_FROM)
    embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
    if not np.isfinite(embeddings).all():
        bad = int(np.flatnonzero(~np.isfinite(embeddings).all(axis=1))[0])
        raise InputError(
            f"model: its embedding of {texts[bad][:60]!r} is not finite: damaged, or training diverged"
        )
    if model.similarity_fn_name == "cosine":
        faiss.normalize_L2(embeddings)
    return embeddings


def stored_embeddings(model: SentenceTransformer, collection: Collection) -> np.ndarray:
    """``embed_documents`` of the whole collection, cached by the model's weights; float32 (D, d)."""
    key = fingerprint(collection.fingerprint, fingerprint_of(model), has_bf16())
    path = cache_folder() / "embeddings" / f"{key}.npy"
    with locked(path):
        if path.exists():
            log.info("reusing embeddings %s", path)
            sealed(path)
            try:
                return np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise InputError(f"{path}: damaged ({error}); delete it to build it anew") from None
        log.info("embedding %d documents of %s", len(collection.documents), collection.name)
        embeddings = embed_documents(model, collection.documents)
        draft = path.with_name(f".{path.name}")
        with open(draft, "wb") as out:
            np.save(out, embeddings)
            out.flush()
            os.fsync(out.fileno())
        draft.rename(path)
        seal(path)
    return embeddings


def search(
    documents: np.ndarray, queries: np.ndarray, k: int, index: str = "Flat"
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` best documents of each query by inner product: rows int64 and scores float32 (Q, k).

    ``index`` is any FAISS ``index_factory`` string, trained on the documents if it must be. Where an
    index finds fewer than k, the row is -1. Raises ``InputError`` for a string FAISS rejects.
    """
    k = min(k, len(documents))
    try:
        if re.search(r"[A-Z]0(?!\d)", index):  # HNSW0 ends the whole process
            raise RuntimeError("Error: a parameter of 0")
        built = faiss.index_factory(documents.shape[1], index, faiss.METRIC_INNER_PRODUCT)
        built.train(documents)
        built.add(documents)
        scores, rows = built.search(queries, k)
    except RuntimeError as error:
        reason = str(error).split("Error:")[-1].strip().split("\n")[0]
        raise InputError(
            f"evaluator.index={index!r}: FAISS refuses it ({reason}); such as Flat, HNSW32, IVF64,Flat"
        ) from None
    return rows, scores
