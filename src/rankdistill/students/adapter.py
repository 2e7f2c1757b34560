"""Adapter students: a linear map over the vectors of a frozen encoder, of a model or of a file."""

from pathlib import Path
from typing import cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Dense, Normalize
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from rankdistill.data.collection import Collection
from rankdistill.errors import InputError, check_counts
from rankdistill.students.load import check_class, load_student, load_weights
from rankdistill.students.made import note_made
from rankdistill.students.sides import encoders, width_of
from rankdistill.students.there import ModelName
from rankdistill.students.vectors import Vectors


def adapter_student(
    model: ModelName | SentenceTransformer = "minilm",
    rank: int | None = None,
    layers: int | None = None,
    max_length: int | None = 256,
    prompts: dict[str, str] | None = None,
    trust_remote_code: bool = False,
) -> SentenceTransformer:
    """A student of ``model``'s vectors x, frozen, and one map of queries and documents: x + W x.

    W is 0 at first, so that it begins as ``model``; it is the weight of sentence-transformers' ``Dense``, the
    last module. ``rank`` makes it a product of two matrices, (d, rank) and (rank, d), that are multiplied
    once it is trained. Texts are encoded once, and a step encodes none. A model that ends in such a map goes
    on training it.

    Raises ``InputError`` if the model can't be had, or has an encoder for queries and one for documents.
    """
    check_counts(**{"student.rank": rank})
    if isinstance(model, str):
        check_class(model, SentenceTransformer)
        whole: BaseModel = load_student(
            model, layers, max_length, 0.0, prompts, trust_remote_code=trust_remote_code
        )
    else:
        whole = model
    if len(encoders(whole)) > 1:
        raise InputError(
            "student.model: it has two encoders (Router), and the map needs one; give one of them"
        )
    new = not is_map(whole[-1])
    student = mapped(cast(SentenceTransformer, whole), rank)
    if new:
        note_made(
            student, "Adapter", "it, frozen, and a new linear map of its vectors, which changes none at first"
        )
    return student


def vectors_student(
    documents: str | Path,
    queries: str | Path,
    collection: Collection,
    rank: int | None = None,
    model: ModelName | None = None,
    max_length: int | None = None,
) -> SentenceTransformer:
    """As ``adapter_student``, of vectors that are there already, such as an API sold: two .npy files.

    ``documents`` is (D, d), ``queries`` (Q, d), rows in the order of ``collection.documents`` and
    ``collection.queries``, by whose texts they are looked up. What is saved is the map alone: a
    SentenceTransformer of vectors, ``model({"sentence_embedding": x})["sentence_embedding"]``; such a folder
    given as ``model`` goes on training. ``max_length`` is not applied: what a vector is of is not known here.

    Raises ``InputError`` if the files don't fit the collection, each other or ``model``.
    """
    check_counts(**{"student.rank": rank})
    vectors = Vectors(collection, documents, queries)
    after = [Normalize()]
    if model is not None:
        after = list(load_weights(SentenceTransformer, model, vectors=True))
        if is_map(after[-1]) and after[-1].in_features != vectors.get_embedding_dimension():
            raise InputError(
                f"student.model: it maps vectors of {after[-1].in_features} dimensions; the files have "
                f"{vectors.get_embedding_dimension()}"
            )
    return mapped(VectorStudent(modules=[vectors, *after], similarity_fn_name="cosine", device="cpu"), rank)


class VectorStudent(SentenceTransformer):
    """A student of ``Vectors``; what is saved is all but these."""

    def save_pretrained(self, path: str, *args, **kwargs) -> None:
        map_alone = SentenceTransformer(
            modules=list(self)[1:], similarity_fn_name=self.similarity_fn_name, device=str(self.device)
        )
        map_alone.save_pretrained(path, *args, **kwargs)


def is_map(module: nn.Module) -> bool:
    """Whether ``module`` is x + W x."""
    if not isinstance(module, Dense) or not isinstance(module.activation_function, nn.Identity):
        return False
    return bool(module.use_residual) and not module.bias and module.in_features == module.out_features


def mapped(model: SentenceTransformer, rank: int | None) -> SentenceTransformer:
    """``model``, frozen, with a map that is trained as its last module, one of ``rank`` at most if given."""
    model.requires_grad_(False)
    if not is_map(model[-1]):
        width = width_of(model)
        if model.similarity_fn_name == "cosine" and not isinstance(model[-1], Normalize):
            model.append(Normalize())  # changes no cosine, and the map gets vectors of one length
        start = torch.zeros(width, width, device=model.device)
        model.append(
            Dense(
                width,
                width,
                bias=False,
                activation_function=nn.Identity(),
                init_weight=start,
                use_residual=True,
            )
        )
    last = cast(Dense, model[-1])
    linear = last.linear
    linear.requires_grad_(rank is None)
    if rank is not None:
        if rank > last.out_features:
            raise InputError(f"student.rank={rank}: the vectors have {last.out_features} dimensions")
        register_parametrization(linear, "weight", LowRank(last.out_features, rank).to(model.device))
    return model


class LowRank(nn.Module):
    """W + up down, of up (d, rank) and down (rank, d), as LoRA has it (Hu et al. 2021, arXiv 2106.09685).

    At first up is 0, and down has orthonormal rows, the same whatever the seed.
    """

    def __init__(self, width: int, rank: int):
        super().__init__()
        self.up = nn.Parameter(torch.zeros(width, rank))
        self.down = nn.Parameter(torch.empty(rank, width))
        nn.init.orthogonal_(self.down, generator=torch.Generator().manual_seed(0))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down
