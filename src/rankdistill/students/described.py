"""What a model card says of a saved student, by the kind of model that it is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.model import BaseModel

from rankdistill.students.fast.tokens import read_limit
from rankdistill.students.prompts import prompt_of
from rankdistill.students.sides import encoders, sides, stored_modules
from rankdistill.students.vectors import Vectors

PLACE = "path/to/this/model"  # in the snippets: the folder, or the name on a hub


# Of each class of student: what it is called, a hub's tags and its kind of pipeline.
KINDS = {
    "SentenceTransformer": ("A bi-encoder", ["feature-extraction"], "sentence-similarity"),
    "MultiVectorEncoder": (
        "A late-interaction model (ColBERT)",
        ["multi-vector", "late-interaction", "colbert"],
        "feature-extraction",
    ),
    "SparseEncoder": ("A sparse encoder", ["sparse-encoder", "sparse", "splade"], "feature-extraction"),
}


@dataclass(frozen=True)
class Kind:
    """What a card says of a kind of model; ``ranks`` says who ranks candidates alone."""

    what: str
    teacher: str
    ranks: str
    pipeline_tag: str
    task: tuple[str, str]
    tags: list[str]
    snippet: str
    rows: Mapping[str, str]


def said_of_kind(student: BaseModel, fields: Mapping[str, Any]) -> Kind:
    """``fields`` are the configuration's of the student."""
    if isinstance(student, CrossEncoder):
        return cross_encoder(student)
    return bi_encoder(cast(SentenceTransformer, student), fields)


def bi_encoder(student: SentenceTransformer, fields: Mapping[str, Any]) -> Kind:
    similarity, kind = student.similarity_fn_name or "cosine", type(student).__name__
    kind = kind if kind in KINDS else "SentenceTransformer"
    what, tags, pipeline = KINDS[kind]
    options = "".join(
        f", {name}={value}"
        for name, value in (
            ("truncate_dim", getattr(student, "truncate_dim", None)),
            ("trust_remote_code", fields.get("trust_remote_code") or None),
        )
        if value is not None
    )
    prompts = {kind: prompt_of(student, kind) for kind in ("query", "document")}
    parts = ", ".join(
        f"{json.dumps(text, ensure_ascii=False)} before a {kind}" for kind, text in prompts.items() if text
    )
    snippet = f"""from sentence_transformers import {kind}

model = {kind}("{PLACE}"{options})
queries = model.encode_query(["a question"])
documents = model.encode_document(["a passage that may answer it", "another one"])
scores = model.similarity(queries, documents)  # of shape (1, 2): the higher, the better"""
    if isinstance(student[0], Vectors):
        snippet = f"""import torch
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{PLACE}")  # it reads no text: it maps vectors, of queries and of documents
vectors = torch.randn(2, {student.get_embedding_dimension()})  # of the encoder that those of training were of
mapped = model({{"sentence_embedding": vectors}})["sentence_embedding"]"""
    return Kind(
        what=f"{what} for search",
        teacher="a slower teacher",
        ranks="`teacher`, where it is listed,\nranks the retrieved candidates alone",
        pipeline_tag=pipeline,
        task=("information-retrieval", "Information Retrieval"),
        tags=["sentence-transformers", *tags],
        snippet=snippet,
        rows={
            "embeddings": f"{student.get_embedding_dimension()} dimensions, compared by {similarity}",
            "maximum length": length(student),
            **parts_of(student),
            "prompts": f"{parts} (`encode_query` and `encode_document` put them there)" if parts else "none",
        },
    )


def cross_encoder(student: CrossEncoder) -> Kind:
    return Kind(
        what="A cross-encoder, which reads a query and a document together and reranks candidates",
        teacher="a teacher",
        ranks="they rank the\nretrieved candidates alone; `retrieved` ranks all documents by an encoder",
        pipeline_tag="text-ranking",
        task=("text-ranking", "Reranking"),
        tags=["sentence-transformers", "cross-encoder", "reranker"],
        snippet=f"""from sentence_transformers import CrossEncoder

model = CrossEncoder("{PLACE}")
scores = model.predict([("a question", "a passage that may answer it"), ("a question", "another one")])
order = scores.argsort()[::-1]  # the higher, the better""",
        rows={"maximum length": f"{length(student)}, query and document together"},
    )


def length(model: SentenceTransformer | CrossEncoder) -> str:
    sentences = [
        "no limit" if tokens is None else f"{tokens:,} token{'s' * (tokens != 1)}"
        for tokens in (read_limit(sides(model)[kind], kind) for kind in ("query", "document"))
    ]
    return (
        sentences[0]
        if len(set(sentences)) == 1
        else f"{sentences[0]} of a query, {sentences[1]} of a document"
    )


def parts_of(student: SentenceTransformer) -> dict[str, str]:
    """What a reader must know of a student that is more than one encoder, trained as a whole."""
    if len(encoders(student)) == 1:
        frozen = stored_modules(student)
        return {"trained": "its last module alone, a linear map of vectors"} if frozen else {}
    return {
        f"encoder of {name}": ", ".join(type(module).__name__ for module in side)
        + (", not trained" if stored_modules(side) == len(side) else "")
        for name, side in zip(("queries", "documents"), sides(student).values(), strict=True)
    }
