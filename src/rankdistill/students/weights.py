"""The weights of a model's folder: numbers that mean what the model computes with, and not all 0."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import nn

from rankdistill.errors import InputError, shorten
from rankdistill.students.settings import read_settings


def check_floats(folder: Path) -> None:
    """Raises ``InputError`` for a file of ``folder`` with weights that are integers.

    They are codes, whose scale would be lost: transformers takes them as they are. Where config.json says how
    they were quantised it does not, or says what it lacks.
    """
    config = folder / "config.json"
    if config.exists() and "quantization_config" in read_settings(config):
        return
    for file in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(file, "pt") as weights:
                kinds = {name: weights.get_slice(name).get_dtype() for name in weights.keys()}
        except (SafetensorError, OSError):  # which loading it will say
            return
        whole = [name for name, kind in kinds.items() if name.endswith("weight") and kind[0] in "IU"]
        if whole:
            raise InputError(
                f"{file}: its weights are integers ({kinds[whole[0]]}, {shorten(whole, 1)}) without what "
                "they are scaled by; give the model in float32, bfloat16 or float16"
            )


def check_not_zero(model: nn.Module, name: str) -> None:
    """Raises ``InputError`` if ``model``, given as ``name``, has weights and each of them is 0."""
    weights = list(model.parameters())
    if weights and not any(bool(weight.any()) for weight in weights):
        raise InputError(f"model {name!r}: its weights are all 0; get the files again")
