"""A saved bi-encoder as other runtimes take it, through sentence-transformers' own back-ends."""

from importlib import import_module
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from rankdistill.errors import InputError

FORMATS = {"openvino": False, "openvino_int8": True}  # whether its weights are of eight bits
ONNX = (
    "sentence-transformers exports it by optimum-onnx, which needs transformers below 4.58, and this library "
    "has 5.3 or later; openvino and openvino_int8 are exported"
)


def check_format(name: str) -> None:
    """Raises ``InputError`` for a format that there is not, or whose packages are not installed."""
    if name.startswith("onnx"):
        raise InputError(f"formats: {name}: {ONNX}")
    if name not in FORMATS:
        raise InputError(f"formats: {name!r} is unknown; available: {', '.join(FORMATS)}")
    try:
        import_module("optimum.intel")
        import_module("openvino")
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"formats: {name} needs optimum-intel and openvino, the extra export ({reason}); "
            "they go with transformers 5.3 to 5.5: install them in an environment of their own, without "
            "constraints.txt"
        ) from None


def export(saved: Path, output: Path, name: str) -> None:
    """Writes the model in the folder ``saved`` to ``output``, in the format ``name``."""
    options = {"export": True, "load_in_8bit": FORMATS[name]}
    model = SentenceTransformer(str(saved), device="cpu", backend="openvino", model_kwargs=options)
    model.save_pretrained(str(output), create_model_card=False)


def load_exported(folder: Path) -> SentenceTransformer:
    """What ``export`` wrote, as sentence-transformers loads it, on as many threads as PyTorch has."""
    threads = {"ov_config": {"INFERENCE_NUM_THREADS": torch.get_num_threads()}}
    return SentenceTransformer(str(folder), device="cpu", backend="openvino", model_kwargs=threads)
