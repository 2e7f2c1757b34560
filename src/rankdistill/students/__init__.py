"""What is trained: sentence-transformers models."""

from rankdistill.students.adapter import adapter_student, vectors_student
from rankdistill.students.asymmetric import asymmetric_student
from rankdistill.students.average import averaged
from rankdistill.students.cross_encoder import load_cross_encoder
from rankdistill.students.late_interaction import late_interaction_student
from rankdistill.students.load import fingerprint_of, load_student, load_weights_from, merge_adapter, start_of
from rankdistill.students.minilm import minilm_path
from rankdistill.students.rankers import load_model
from rankdistill.students.sparse import document_frequency_weights, sparse_student
from rankdistill.students.static import static_student

__all__ = [
    "adapter_student",
    "asymmetric_student",
    "averaged",
    "document_frequency_weights",
    "fingerprint_of",
    "late_interaction_student",
    "load_cross_encoder",
    "load_model",
    "load_student",
    "load_weights_from",
    "merge_adapter",
    "minilm_path",
    "sparse_student",
    "start_of",
    "static_student",
    "vectors_student",
]
