"""Texts to vectors, as a model is used; kept on disk, or in passing."""

import logging
import os
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import faiss
import numpy as np
import torch
from numpy.lib.format import open_memmap
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.model import BaseModel
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util import batch_to_device, truncate_embeddings
from torch import Tensor
from tqdm.auto import tqdm

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError
from rankdistill.runtime import processes
from rankdistill.runtime.cache import draft_of, fingerprint, map_npy, once, seal, sealed, sync, writing
from rankdistill.runtime.environment import cache_folder, embeddings_limit
from rankdistill.runtime.hardware import autocast, has_bf16
from rankdistill.runtime.pruning import limit_embeddings
from rankdistill.students import fingerprint_of
from rankdistill.students.fast.chunking import by_length, chunks, tokens_at_once
from rankdistill.students.fast.packing import first_position, packed
from rankdistill.students.fast.tokens import TokenStore, stored_tokens
from rankdistill.students.finite import check_finite
from rankdistill.students.prompts import prompt_of
from rankdistill.students.sides import sides, stored_modules, stored_part, width_of
from rankdistill.students.stored import above

log = logging.getLogger(__name__)
BAR_FROM = 1000  # texts; fewer are embedded within seconds
WINDOW = 2_000  # texts tokenised and sorted at a time
BLOCK = 50_000  # texts embedded at a time
NAMES = {"query": "queries", "document": "documents"}


def embed_queries(model: BaseModel, texts: Sequence[str], progress: bool = True) -> np.ndarray:
    """float32 (Q, d), with the model's query prompt, normalised if its similarity is cosine."""
    return _embed(model, "query", texts, progress)


def embed_documents(model: BaseModel, texts: Sequence[str], progress: bool = True) -> np.ndarray:
    """float32 (D, d), with the model's document prompt, normalised if its similarity is cosine."""
    return _embed(model, "document", texts, progress)


def _side(model: BaseModel, kind: str) -> SentenceTransformer:
    """What embeds texts of ``kind``: a bi-encoder, as all are that embed a text in one vector here."""
    return cast(SentenceTransformer, sides(model)[kind])


def _embed(whole: BaseModel, kind: str, texts: Sequence[str], progress: bool) -> np.ndarray:
    model = _side(whole, kind)
    if model.similarity_fn_name not in (None, "cosine", "dot"):
        raise InputError(
            f"model: it compares by {model.similarity_fn_name}, and documents are ranked by cosine or dot "
            "product; set its similarity_fn_name if either suits the model"
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
    check_finite(embeddings, texts)
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
    embeddings = np.empty((len(texts), width_of(model)), dtype=np.float32)
    bar = tqdm(total=len(texts), desc="embedding", unit="text", disable=not progress)
    with bar, packed(model):
        for start in range(0, len(texts), WINDOW):
            some = list(texts[start : start + WINDOW])
            features = dict(model.preprocess(some, prompt=prompt_of(model, kind), task=kind))
            for rows, chunk in chunks(features, by_length(features), budget, first):
                vectors = model(batch_to_device(chunk, model.device), task=kind)["sentence_embedding"]
                vectors = truncate_embeddings(vectors, model.truncate_dim)
                embeddings[start + rows.numpy()] = vectors.float().cpu().numpy()
                bar.update(len(rows))
    return embeddings


def stored_embeddings(model: BaseModel, collection: Collection, kind: str = "document") -> np.ndarray:
    """``embed_documents`` of the whole collection, cached by the model's weights; float32 (D, d).

    Or ``embed_queries`` of all its queries. Memory-mapped, and written block by block, so that it may be
    larger than memory. The processes of a job share the work. Those that were used longest ago go when all
    take more than RANKDISTILL_CACHE_LIMIT.
    """
    side = _side(model, kind)
    return _open(
        store_embeddings(side, collection, kind),
        (len(_texts(collection, kind)), width_of(side)),
    )


def store_embeddings(model: BaseModel, collection: Collection, kind: str) -> Path:
    """Where ``stored_embeddings`` are kept, made unless they are there."""
    side, texts = _side(model, kind), _texts(collection, kind)
    path = processes.broadcast(embeddings_path(side, collection, kind))
    with once(path) as missing:
        if not missing:
            log.info("reusing embeddings %s", path)
        else:
            most = embeddings_limit()
            log.info("embedding %d %s of %s", len(texts), NAMES[kind], collection.name)
            draft = processes.broadcast(draft_of(path))
            try:
                _embed_into(draft, side, collection, kind)
                if processes.is_main():
                    sync(draft)
                    draft.rename(path)
                    seal(path, f"{collection.name}, {len(texts):,} {NAMES[kind]}")
            finally:
                if processes.is_main():
                    draft.unlink(missing_ok=True)
    if missing and processes.is_main():
        _open(path, (len(texts), width_of(side)))
        limit_embeddings(most)  # these are in use now
    return path


def embeddings_path(model: BaseModel, collection: Collection, kind: str) -> Path:
    """Where ``store_embeddings`` keeps those of the same."""
    side = _side(model, kind)
    key = fingerprint(collection.texts_fingerprint(kind), fingerprint_of(side), has_bf16(), kind)
    return cache_folder() / "embeddings" / f"{key}.npy"


def _texts(collection: Collection, kind: str) -> Sequence[str]:
    return collection.queries if kind == "query" else collection.documents


def _open(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """The embeddings at ``path``, memory-mapped; raises ``InputError`` unless finite float32 of ``shape``."""
    trusted = sealed(path)
    try:
        embeddings = map_npy(path)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it to build it again") from None
    layout = embeddings.shape, embeddings.dtype
    if layout != (shape, np.float32):
        raise InputError(
            f"{path}: damaged ({layout[0]} {layout[1]}, not {shape}); delete it to build it again"
        )
    if not trusted:
        if not all(np.isfinite(embeddings[i : i + BLOCK]).all() for i in range(0, len(embeddings), BLOCK)):
            raise InputError(f"{path}: damaged (numbers that are not finite); delete it to build it again")
        seal(path)
    return embeddings


def passing_embeddings(model: BaseModel, collection: Collection) -> np.ndarray:
    """``embed_documents`` of the collection, the processes of a job sharing the work; nothing is kept.

    But for what a frozen encoder makes of them, and the tokens that a static model reads: these are stored.
    """
    side = _side(model, "document")
    if stored_modules(side) == len(side):
        return stored_embeddings(side, collection)
    if processes.count() == 1:
        return _embedder(side, collection, "document")(0, len(collection.documents))
    file = processes.broadcast(cache_folder() / "embeddings" / f".{uuid.uuid4().hex}.npy")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        _embed_into(file, side, collection, "document")
    embeddings = np.load(file, mmap_mode="r", allow_pickle=False)
    processes.wait()  # until all have opened it; what is mapped stays
    if processes.is_main():
        file.unlink()
    return embeddings


def _embedder(
    side: SentenceTransformer, collection: Collection, kind: str
) -> Callable[[int, int], np.ndarray]:
    """What embeds the texts of ``kind`` from a first to an end row.

    Of a frozen encoder under what is trained, an adapter, the vectors are those that are stored; of a static
    model the tokens, which take longer to make than all the rest.
    """
    texts = _texts(collection, kind)
    if 0 < stored_modules(side) < len(side):
        vectors = stored_embeddings(stored_part(side), collection, kind)

        def mapped(start: int, end: int) -> Tensor:
            return above(side, torch.from_numpy(np.array(vectors[start:end])).to(side.device))

        return _comparable(mapped, side, texts)
    if isinstance(side[0], StaticEmbedding):
        store = stored_tokens(side, collection, kind, prompt_of(side, kind))
        if store is not None:
            return _comparable(partial(_embed_tokens, side, store), side, texts)
    return lambda start, end: _embed(side, kind, texts[start:end], end - start == len(texts))


def _embed_tokens(side: SentenceTransformer, store: TokenStore, start: int, end: int) -> Tensor:
    """What the static model ``side`` makes of the texts from row ``start`` to ``end``."""
    parts = []
    with autocast(side.device):
        for first in range(start, end, WINDOW):
            ids, begun = store.flat(np.arange(first, min(first + WINDOW, end)))
            features = {"input_ids": ids.astype(np.int64), "offsets": begun}
            tensors = {name: torch.from_numpy(value).to(side.device) for name, value in features.items()}
            parts.append(side(tensors)["sentence_embedding"].float())
    return truncate_embeddings(torch.cat(parts), side.truncate_dim)


def _comparable(
    embed: Callable[[int, int], Tensor], side: SentenceTransformer, texts: Sequence[str]
) -> Callable[[int, int], np.ndarray]:
    """``embed`` to arrays that are finite, and of one length if ``side`` compares by cosine."""

    @torch.inference_mode()
    def embedded(start: int, end: int) -> np.ndarray:
        side.eval()
        vectors = np.ascontiguousarray(embed(start, end).float().cpu().numpy())
        check_finite(vectors, texts[start:end])
        if side.similarity_fn_name == "cosine":
            faiss.normalize_L2(vectors)
        return vectors

    return embedded


def _embed_into(file: Path, side: SentenceTransformer, collection: Collection, kind: str) -> None:
    """Writes the embeddings of all texts of ``kind`` to the .npy ``file``, each process a share of blocks."""
    embed, count = _embedder(side, collection, kind), len(_texts(collection, kind))
    if processes.is_main():
        width = width_of(side)
        open_memmap(file, mode="w+", dtype=np.float32, shape=(count, width)).flush()
        if hasattr(os, "posix_fallocate"):  # a full disk shows now, not as a fault of memory
            with open(file, "r+b") as out:
                os.posix_fallocate(out.fileno(), 0, file.stat().st_size)
    processes.wait()
    embeddings = open_memmap(file, mode="r+")
    size = min(BLOCK, -(-count // processes.count()))
    starts = range(0, count, size)[processes.rank() :: processes.count()]
    for start in tqdm(
        starts, desc="embedding", unit="block", disable=len(starts) < 2 or not processes.is_main()
    ):
        embeddings[start : start + size] = embed(start, min(start + size, count))
    embeddings.flush()
    processes.wait()
