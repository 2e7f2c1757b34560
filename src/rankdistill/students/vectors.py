"""Vectors of a collection's texts that are there already, as the first module of a model."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.modules import InputModule
from torch import Tensor

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError, shorten

BLOCK = 50_000  # rows checked at a time
MAGIC = b"\x93NUMPY"
SHORTEST, LONGEST = 1e-12, 1e18  # of a vector whose length is computed in float32


class Vectors(InputModule):
    """Texts to vectors by looking them up: rows of two .npy files, in the order of a collection's texts.

    Floats (D, d) of the documents and (Q, d) of the queries, memory-mapped. Of equal texts the first one's
    vector is taken. Raises ``InputError`` if the files are of another shape, or hold what is not finite.
    """

    tokenizer: Any = None

    def __init__(self, collection: Collection, documents: str | Path, queries: str | Path):
        super().__init__()
        self.texts = {"query": collection.queries, "document": collection.documents}
        self.files = {"query": Path(queries), "document": Path(documents)}
        self.matrices: dict[str, np.ndarray] = {}
        for kind, file in self.files.items():
            name = "student.queries" if kind == "query" else "student.documents"
            self.matrices[kind] = read_matrix(file, len(self.texts[kind]), name, kind, collection.name)
        width = {kind: matrix.shape[1] for kind, matrix in self.matrices.items()}
        if width["query"] != width["document"]:
            raise InputError(
                f"student.queries: {self.files['query']} has vectors of {width['query']} dimensions, "
                f"student.documents of {width['document']}; both must be of one model"
            )
        self.width = width["query"]

    @cached_property
    def rows(self) -> Mapping[str, Mapping[str, int]]:
        """By kind, the row of each text."""
        return {
            kind: {text: len(texts) - 1 - i for i, text in enumerate(reversed(texts))}
            for kind, texts in self.texts.items()
        }

    def preprocess(  # type: ignore[override]  # of texts alone
        self, inputs: Sequence[str], prompt: str | None = None, task: str | None = None, **kwargs
    ) -> dict[str, Tensor]:
        kind = task or "document"
        if unknown := [text for text in inputs if text not in self.rows[kind]]:
            raise InputError(
                f"student: there is no vector of the {kind} {unknown[0][:60]!r}; the files have those of the "
                "collection's texts alone"
            )
        rows = [self.rows[kind][text] for text in inputs]
        return {"sentence_embedding": torch.from_numpy(self.matrices[kind][rows].astype(np.float32))}

    def forward(self, features: dict[str, Tensor], **kwargs) -> dict[str, Tensor]:
        return features

    def get_embedding_dimension(self) -> int:
        return self.width

    def get_config_dict(self) -> dict[str, Any]:
        """What tells these vectors from others, of which fingerprints are made."""
        return self._checksums

    @cached_property
    def _checksums(self) -> dict[str, str]:
        checksums = {}
        for kind, path in self.files.items():
            with open(path, "rb") as file:
                checksums[kind] = hashlib.file_digest(file, "sha256").hexdigest()
        return checksums

    def save(self, output_path: str, *args, **kwargs) -> None:
        raise InputError("student: vectors of a file are not saved with a model; its other modules are")


def read_matrix(file: Path, texts: int, name: str, kind: str, collection: str) -> np.ndarray:
    """The .npy ``file``, given as ``name``, memory-mapped: floats, a row for each of ``texts``."""
    what = "queries" if kind == "query" else "documents"
    try:
        matrix = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else why_not(file, error)
        raise InputError(f"{name}: {file} is not a .npy file of floats ({reason})") from None
    if not isinstance(matrix, np.ndarray):
        raise InputError(f"{name}: {file} holds several arrays (.npz); it must be a .npy file of one")
    whole = matrix.ndim == 2 and len(matrix) == texts and matrix.shape[1] > 0
    if not whole or not np.issubdtype(matrix.dtype, np.floating):
        raise InputError(
            f"{name}: {file} is {matrix.dtype} {matrix.shape}; it must be float ({texts}, d), a row for each "
            f"of the {texts} {what} of {collection} in their order"
        )
    held, said = file.stat().st_size, getattr(matrix, "offset", 0) + matrix.nbytes
    if held != said:
        raise InputError(f"{name}: {file} holds {held} bytes, and an array of {said}; write it again")
    for start in range(0, texts, BLOCK):
        finite = np.isfinite(matrix[start : start + BLOCK]).all(axis=1)
        if not finite.all():
            bad = [start + int(row) for row in np.flatnonzero(~finite)]
            raise InputError(
                f"{name}: {file} has numbers that are not finite, in row {shorten(map(str, bad))}"
            )
        lengths = np.linalg.norm(matrix[start : start + BLOCK].astype(np.longdouble), axis=1)
        strange = (lengths > LONGEST) | ((lengths < SHORTEST) & (lengths > 0))
        if strange.any():
            bad = [start + int(row) for row in np.flatnonzero(strange)]
            raise InputError(
                f"{name}: {file} has vectors of a length beyond {SHORTEST:g} to {LONGEST:g}, which float32 "
                f"cannot square, in row {shorten(map(str, bad))}; divide all by one number"
            )
    return matrix


def why_not(file: Path, error: Exception) -> str:
    """Why NumPy could not read ``file``; its own words may advise to unpickle it, which runs code."""
    try:
        with open(file, "rb") as opened:
            begins = opened.read(len(MAGIC)) == MAGIC
    except OSError as again:
        return again.strerror or str(again)
    if not begins:
        return "it does not begin as one"
    return "it holds objects" if re.search("pickle|object", str(error)) else " ".join(str(error).split())
