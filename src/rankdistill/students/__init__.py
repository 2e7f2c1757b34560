"""What is trained: sentence-transformers models."""

from rankdistill.students.load import fingerprint_of, load_student, load_weights_from, merge_adapter, start_of
from rankdistill.students.minilm import minilm_path
from rankdistill.students.static import static_student

__all__ = [
    "fingerprint_of",
    "load_student",
    "load_weights_from",
    "merge_adapter",
    "minilm_path",
    "start_of",
    "static_student",
]
