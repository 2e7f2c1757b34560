"""The kinds of model that other rooms know: sentence-transformers' classes under this house's names."""

from sentence_transformers import CrossEncoder as CrossEncoderModel
from sentence_transformers import MultiVectorEncoder as LateInteractionModel
from sentence_transformers import SentenceTransformer as BiEncoderModel
from sentence_transformers import SparseEncoder as SparseModel
from sentence_transformers.base.model import BaseModel as Model

__all__ = ["BiEncoderModel", "CrossEncoderModel", "LateInteractionModel", "Model", "SparseModel"]
