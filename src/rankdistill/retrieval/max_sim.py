"""Token vectors of late interaction, through all documents: exact."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from sentence_transformers.util import batch_to_device
from tqdm.auto import tqdm

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError
from rankdistill.retrieval.ties import best_ranked, check_exact
from rankdistill.runtime import processes
from rankdistill.runtime.cache import build_folder, fingerprint, map_npy, save_npy, sealed
from rankdistill.runtime.environment import cache_folder, embeddings_limit
from rankdistill.runtime.hardware import autocast, has_bf16
from rankdistill.runtime.pruning import limit_embeddings
from rankdistill.students.fast.chunking import by_length, chunks, tokens_at_once
from rankdistill.students.finite import check_finite
from rankdistill.students.load import fingerprint_of
from rankdistill.students.models import LateInteractionModel
from rankdistill.students.prompts import prompt_of
from rankdistill.students.sides import width_of

log = logging.getLogger(__name__)
BAR_FROM = 1000  # texts; fewer are embedded within seconds
WINDOW = 2_000  # texts tokenised and sorted at a time
COMPARED = "token vectors are compared with all documents, which is exact and has"
QUERIES = 256  # compared at a time
DOCUMENTS = 2_000  # compared at a time
PAIRS = 2_000  # compared at a time
ELEMENTS = 16_000_000  # numbers of token similarities at a time
NEAR = 4e-7  # scores that differ by less of the vectors' lengths may be of equal documents


@dataclass(frozen=True)
class TokenVectors:
    """Of n texts one after the other: ``vectors`` float32 (T, d), and where each text begins (n + 1,)."""

    vectors: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """float32 (L, d) of the text at ``row``."""
        return self.vectors[self.offsets[row] : self.offsets[row + 1]]

    def longest(self) -> np.ndarray:
        """The greatest length of a token's vector, of each text; float64 (n,)."""
        lengths = (np.linalg.norm(self[row], axis=1).max(initial=0) for row in range(len(self)))
        return np.fromiter(lengths, np.float64, len(self))


def joined(parts: Sequence[TokenVectors]) -> TokenVectors:
    """The texts of all ``parts``."""
    counts = np.concatenate([np.diff(part.offsets) for part in parts])
    return TokenVectors(np.concatenate([part.vectors for part in parts]), np.append(0, np.cumsum(counts)))


class MaxSimIndex:
    """``tokens`` are ``model``'s of the documents; see ``Index``. It compares a query with all of them."""

    vectors = None

    def __init__(self, model: LateInteractionModel, tokens: TokenVectors):
        self.model, self.tokens = model, tokens
        self._asked: tuple[list[str], TokenVectors] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

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
        check_exact(COMPARED, index, parameters, field)
        wanted, documents = self._encoded(queries), len(self)
        if not documents or not len(wanted):
            return np.empty((len(wanted), 0), np.int64), np.empty((len(wanted), 0), np.float32)

        def find(some: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
            parts = [self._best(wanted, some[i : i + QUERIES], n) for i in range(0, len(some), QUERIES)]
            scores, rows = zip(*parts, strict=True)
            return np.concatenate(scores), np.concatenate(rows)

        def settle(query: int, rows: np.ndarray, scores: np.ndarray) -> list[float]:
            tokens = wanted[query].astype(np.float64)
            mean = len(tokens) if self.model.similarity_fn_name == "meanmaxsim" else 1
            alone = [self.tokens[row] for row in rows]  # whatever its neighbours
            return [
                (tokens @ found.T.astype(np.float64)).max(axis=1).sum() / mean if len(found) else score
                for found, score in zip(alone, scores, strict=True)
            ]

        # the score's bound, by which its rounding is measured
        counts = np.diff(wanted.offsets) if self.model.similarity_fn_name == "maxsim" else 1
        tolerance = NEAR * counts * wanted.longest() * self.tokens.longest().max()
        return best_ranked(
            find, len(wanted), documents, min(k, documents), ids, own, tolerance=tolerance, settle=settle
        )

    def _best(self, wanted: TokenVectors, some: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``n`` best of all documents for ``some`` queries: scores float32 and rows (len(some), n)."""
        queries = [_tensor(wanted[query]) for query in some]
        scores: np.ndarray = np.empty((len(some), 0), np.float32)
        rows: np.ndarray = np.empty((len(some), 0), np.int64)
        for start in range(0, len(self), DOCUMENTS):
            block = range(start, min(start + DOCUMENTS, len(self)))
            found = self.model.similarity(
                queries,
                [_tensor(self.tokens[row]) for row in block],
                chunk_elements=ELEMENTS,
                device=self.model.device,
            ).numpy()
            scores = np.hstack([scores, found])
            rows = np.hstack([rows, np.broadcast_to(np.arange(block.start, block.stop), found.shape)])
            order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
            scores, rows = (np.take_along_axis(x, order, axis=1) for x in (scores, rows))
        return scores, rows

    def scores(self, queries: Sequence[str], owners: np.ndarray, rows: np.ndarray) -> np.ndarray:
        wanted, values = self._encoded(queries), np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), PAIRS):
            some = slice(start, start + PAIRS)
            values[some] = self.model.similarity_pairwise(
                [_tensor(wanted[query]) for query in owners[some]],
                [_tensor(self.tokens[row]) for row in rows[some]],
                chunk_elements=ELEMENTS,
                device=self.model.device,
            ).numpy()
        return values

    def active(self, queries: Sequence[str]) -> dict[str, float]:
        return {}

    def _encoded(self, queries: Sequence[str]) -> TokenVectors:
        """Those of the last time are kept."""
        if self._asked is None or self._asked[0] != list(queries):
            self._asked = list(queries), embed_tokens(self.model, "query", queries)
        return self._asked[1]


def _tensor(vectors: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(vectors))  # what is memory-mapped cannot be written to


@torch.inference_mode()
def embed_tokens(
    model: LateInteractionModel, kind: str, texts: Sequence[str], progress: bool = True
) -> TokenVectors:
    """As ``encode_query`` and ``encode_document`` of texts of the ``kind`` query or document."""
    model.eval()
    bar = tqdm(total=len(texts), desc="embedding", unit="text", disable=not progress or len(texts) < BAR_FROM)
    parts = [TokenVectors(np.empty((0, width_of(model)), np.float32), np.zeros(1, np.int64))]
    with bar, autocast(model.device):
        for start in range(0, len(texts), WINDOW):
            some = list(texts[start : start + WINDOW])
            features = dict(model.preprocess(some, prompt=prompt_of(model, kind), task=kind))
            found: list[np.ndarray] = [np.empty(0)] * len(some)
            for rows, chunk in _parts(model, features):
                made = model(batch_to_device(chunk, model.device), task=kind)
                vectors, masks = made["token_embeddings"].float(), made["attention_mask"].bool()
                for row, tokens, mask in zip(rows.tolist(), vectors, masks, strict=True):
                    found[row] = tokens[mask].cpu().numpy()
                bar.update(len(rows))
            check_finite(found, some)
            counts = [len(tokens) for tokens in found]
            parts.append(TokenVectors(np.concatenate(found), np.append(0, np.cumsum(counts))))
    return joined(parts)


def _parts(model: LateInteractionModel, features: dict):
    """Rows and features of texts of like length; expanded queries stay as wide as they are."""
    order, budget = by_length(features), tokens_at_once(model.device)
    if "query_expansion_positions" not in features:
        yield from chunks(features, order, budget)
        return
    for rows in order.split(max(1, budget // features["input_ids"].shape[1])):
        yield (
            rows,
            {name: value[rows] if torch.is_tensor(value) else value for name, value in features.items()},
        )


def stored_tokens_of(model: LateInteractionModel, collection: Collection) -> TokenVectors:
    """``embed_tokens`` of the whole collection, cached by the model's weights, memory-mapped.

    Those that were used longest ago go when all embeddings take more than RANKDISTILL_CACHE_LIMIT.
    """
    documents = collection.documents
    key = fingerprint("max_sim", collection.fingerprint, fingerprint_of(model), has_bf16())
    path = processes.broadcast(cache_folder() / "embeddings" / f"{key}.tokens")
    most, missing = embeddings_limit(), processes.broadcast(not path.exists())
    passing = passing_tokens(model, documents) if missing else None

    def write(folder: Path) -> None:
        whole = cast(TokenVectors, passing)  # which the main process, who writes, has
        save_npy(folder / "vectors.npy", whole.vectors)
        save_npy(folder / "offsets.npy", whole.offsets)

    build_folder(path, write, f"{collection.name}, {len(documents):,} documents")
    if missing and processes.is_main():
        limit_embeddings(most)
    return _open(path, len(documents), width_of(model))


def _open(path: Path, documents: int, dimensions: int) -> TokenVectors:
    """What is in the folder ``path``; raises ``InputError`` unless it is whole, of so many documents."""
    try:
        trusted = sealed(path)
        vectors, offsets = map_npy(path / "vectors.npy"), np.array(map_npy(path / "offsets.npy"))
        whole = (
            (vectors.dtype, vectors.shape[1:], offsets.dtype) == (np.float32, (dimensions,), np.int64)
            and (offsets.shape, offsets[0], offsets[-1]) == ((documents + 1,), 0, len(vectors))
            and (np.diff(offsets) >= 0).all()
            and (trusted or np.isfinite(vectors).all())
        )
        if not whole:
            raise ValueError(f"not token vectors of {documents} documents")
    except (OSError, ValueError, EOFError, IndexError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it to build it again") from None
    return TokenVectors(vectors, offsets)


def passing_tokens(model: LateInteractionModel, texts: Sequence[str]) -> TokenVectors:
    """``embed_tokens`` of documents, the processes of a job sharing the work; nothing is kept."""
    log.info("embedding %d documents", len(texts))
    bounds = np.linspace(0, len(texts), processes.count() + 1).astype(int)
    first, last = bounds[processes.rank()], bounds[processes.rank() + 1]
    return joined(processes.gathered(embed_tokens(model, "document", texts[first:last])))
