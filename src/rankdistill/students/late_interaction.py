"""Late-interaction students (ColBERT): a text is a vector for each token, compared by MaxSim."""

from collections.abc import Collection as Container
from collections.abc import Sequence
from typing import Any, cast

import torch
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import Tensor, nn
from torch.nn.functional import pad

from rankdistill.errors import InputError, check_counts
from rankdistill.runtime import processes
from rankdistill.students.base import Encoder
from rankdistill.students.dense import DenseEncoder
from rankdistill.students.kinds import kind_of
from rankdistill.students.load import check_class, load_student, load_weights
from rankdistill.students.made import note_made
from rankdistill.students.sides import encoders
from rankdistill.students.sparse import states_in_company
from rankdistill.students.there import ModelName, place_of
from rankdistill.vocabulary import Batch, Embeddings, Outputs

ELEMENTS = 16_000_000  # numbers of a chunk that is compared: tokens of queries times tokens of documents


def late_interaction_student(
    model: ModelName = "minilm",
    dimensions: int | None = 128,
    layers: int | None = None,
    max_length: int | None = 256,
    dropout: float | None = 0.0,
    prompts: dict[str, str] | None = None,
    trust_remote_code: bool = False,
) -> MultiVectorEncoder:
    """A ColBERT student of ``model``; one of late interaction already is taken as it is.

    A text is the vectors of its tokens, of length 1; a score is the sum over the query's tokens of their
    highest inner product with a token of the document (MaxSim, Khattab and Zaharia 2020, arXiv 2004.12832).
    They are brought to ``dimensions`` by a linear map that is trained, at first the ``principal_axes`` of the
    token states, so that little is lost; None has no such map.
    Raises ``InputError`` if the model can't be had, or has fewer dimensions or no transformer.
    """
    check_counts(**{"student.dimensions": dimensions})
    check_class(model, MultiVectorEncoder, SentenceTransformer)
    whole = load_student(model, layers, max_length, dropout, prompts, trust_remote_code=trust_remote_code)
    if not isinstance(whole, SentenceTransformer):
        return cast(MultiVectorEncoder, whole)
    if len(encoders(whole)) > 1 or whole.transformers_model is None:
        raise InputError(
            f"model {model!r} is not one transformer for both queries and documents, which a student of late "
            "interaction needs"
        )
    projection: list[nn.Module] = []
    if dimensions is not None:
        axes = principal_axes(whole, dimensions)
        projection = [
            Dense(
                axes.shape[1],
                dimensions,
                bias=False,
                activation_function=nn.Identity(),
                init_weight=axes,
                module_input_name="token_embeddings",
            )
        ]
    modules = [whole[0], *projection, MultiVectorMask(), Normalize("token_embeddings", "token_embeddings")]
    student = MultiVectorEncoder(
        modules=modules, prompts=cast(dict[str, str], whole.prompts), device=str(whole.device)
    )
    brought = "" if dimensions is None else f", by a new linear map to their {dimensions} principal axes"
    note_made(student, "Late-interaction student", f"the vectors of its tokens{brought}")
    return student


@torch.no_grad()  # inference mode would leave weights that cannot be trained
def principal_axes(model: SentenceTransformer, dimensions: int) -> Tensor:
    """Orthonormal rows (``dimensions``, d) that keep the most of ``model``'s token states; nothing random.

    Those of the largest eigenvalues of the second moment of the states of its vocabulary's tokens, which are
    read in each other's company.
    """
    _, states = states_in_company(model)
    states = states.flatten(0, 1).double()
    if dimensions > states.shape[1]:
        raise InputError(
            f"student.dimensions={dimensions}: the model's token vectors have {states.shape[1]}; give fewer, "
            "or null for all"
        )
    _, axes = torch.linalg.eigh(states.T @ states)
    axes = axes.flip(1)[:, :dimensions].T
    signs = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()  # eigh leaves them open
    return (axes * signs).float().contiguous()


class LateInteraction(DenseEncoder):
    """Token vectors of queries and of chunks of documents; a score is ``scale`` times the model's MaxSim.

    It is computed chunk by chunk, as the documents were encoded, so that the token similarities of one
    chunk are there at a time.
    """

    offers = Encoder.offers
    model: MultiVectorEncoder

    def __init__(self, model: MultiVectorEncoder, scale: float, half: bool = False, grad_cache: bool = False):
        super().__init__(model, False, scale, half, grad_cache)

    def read(self, made: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Token vectors float32 (n, L, d), and bool (n, L), which of them count."""
        return made["token_embeddings"].float(), made["attention_mask"].bool()

    def forward(self, inputs: Any, batch: Batch, wanted: Container[str]) -> Outputs:
        queries, *documents = self._encoded(
            [(inputs["queries"], "query"), *((part, "document") for part in inputs["documents"])]
        )
        with torch.autocast(queries[0].device.type, enabled=False):
            scores = torch.cat([self.max_sim(queries, part) for part in documents], dim=1)
            in_batch = all_documents = None
            if "in_batch" in wanted and processes.count() == 1:
                in_batch = scores
            elif "in_batch" in wanted:
                in_batch = self.max_sim(queries, gathered(together(documents)))
            if "documents" in wanted:
                all_documents = Embeddings(*together(documents))
        group_scores = scores.gather(1, batch.index)
        return Outputs(group_scores, in_batch, Embeddings(*queries), all_documents, scale=self.scale)

    def max_sim(self, queries: tuple[Tensor, Tensor], documents: tuple[Tensor, Tensor]) -> Tensor:
        """float32 (B, U), of vectors (n, L, d) and masks (n, L)."""
        (q, q_mask), (d, d_mask) = queries, documents
        scores = self.model.similarity(q, d, a_mask=q_mask, b_mask=d_mask, chunk_elements=ELEMENTS)
        return self.scale * scores


def token_model(model: ModelName, **options) -> MultiVectorEncoder:
    """``model`` as it compares tokens, trained for it or not; ``options`` are those of ``load_weights``.

    One of late interaction is taken as it is; of any other encoder the last layer's normalised tokens, where
    sentence-transformers would add a random projection, to be trained.
    """
    encoder = load_weights(MultiVectorEncoder, model, ("SentenceTransformer",), **options)
    if kind_of(place_of(model)) == "MultiVectorEncoder":
        return encoder
    plain = load_weights(SentenceTransformer, model, **options)
    modules = [plain[0], MultiVectorMask(), Normalize("token_embeddings", "token_embeddings")]
    return MultiVectorEncoder(modules=modules, prompts=plain.prompts, device=options.get("device"))


def together(parts: Sequence[tuple[Tensor, Tensor]], length: int = 0) -> tuple[Tensor, Tensor]:
    """All texts of ``parts``, vectors (n, L, d) and masks (n, L), with as many tokens as the longest.

    Or ``length``, if that is more.
    """
    longest = max(length, *(mask.shape[1] for _, mask in parts))
    vectors = [pad(x, (0, 0, 0, longest - x.shape[1])) for x, _ in parts]
    return torch.cat(vectors), torch.cat([pad(mask, (0, longest - mask.shape[1])) for _, mask in parts])


def gathered(documents: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Those of every process, as ``processes.gather_rows`` has it; what fills up scores 0."""
    vectors, mask = together([documents], max(processes.gathered(documents[1].shape[1])))
    return processes.gather_rows(vectors), processes.gather_rows(mask.to(torch.uint8), fill=1).bool()
