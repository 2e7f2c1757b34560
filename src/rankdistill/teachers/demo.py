"""The teacher that ships with the library: two LoRA adapters for all-MiniLM-L6-v2.

Trained by ``scripts/train_demo_teacher.py``; what on, how long and how good it is:
``assets/demo_teacher/README.md``.
"""

import hashlib
import json
from importlib.resources import files
from pathlib import Path

from rankdistill.errors import InputError
from rankdistill.runtime.cache import build_folder
from rankdistill.runtime.checked import checked
from rankdistill.runtime.environment import cache_folder
from rankdistill.students.load import weights_apart
from rankdistill.students.minilm import minilm_path
from rankdistill.students.models import BiEncoderModel
from rankdistill.students.sides import transformer_of
from rankdistill.students.there import ModelName
from rankdistill.teachers.cross_encoder import CrossEncoderTeacher
from rankdistill.teachers.dense import DenseTeacher
from rankdistill.teachers.ensemble import EnsembleTeacher

PARTS = {"demo": "ensemble", "demo_bi_encoder": "bi_encoder"}  # as load_teacher calls them
ASSETS = Path(str(files("rankdistill") / "assets" / "demo_teacher"))


def load_teacher(model: ModelName = "demo", max_length: int | None = None, trust_remote_code: bool = False):
    """The ``demo`` teacher that ships with the library, its bi-encoder alone, or any cross-encoder by name.

    ``model`` is ``demo``, ``demo_bi_encoder``, a folder or a hub name; ``max_length`` in tokens, of a
    cross-encoder query and document together: by default 160 of the demo's, another model's own.
    """
    if model in PARTS:
        return demo_teacher(PARTS[model], **({} if max_length is None else {"max_length": max_length}))
    return CrossEncoderTeacher(model, max_length, trust_remote_code=trust_remote_code)


@checked
def demo_teacher(part: str = "ensemble", max_length: int = 160):
    """The demo teacher: its ``cross_encoder``, its ``bi_encoder``, or both, ``ensemble``."""
    if part not in ("ensemble", "cross_encoder", "bi_encoder"):
        raise InputError(f"part={part!r}: it must be ensemble, cross_encoder or bi_encoder")
    weights = json.loads((ASSETS / "ensemble.json").read_text())
    if part == "cross_encoder":
        return CrossEncoderTeacher(merged("cross_encoder"), max_length)
    if part == "bi_encoder":
        return DenseTeacher(merged("bi_encoder"), scale=1.0, max_length=max_length)
    return EnsembleTeacher({name: demo_teacher(name, max_length) for name in weights}, weights)


def merged(part: str) -> str:
    """A folder, in the cache, of MiniLM with the adapter ``part`` merged into it.

    The cross-encoder's adapter was trained on the bi-encoder's weights, so both are merged for it.
    """
    adapters = [ASSETS / name / "adapter_model.safetensors" for name in ("bi_encoder", part)]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in adapters)).hexdigest()
    path = cache_folder() / "models" / f"demo_{part}-{digest[:16]}"
    return str(build_folder(path, lambda folder: _merge(part, folder)))


def _merge(part: str, folder: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base, tuned = minilm_path(), ASSETS / "bi_encoder"
    if part == "bi_encoder":
        student = BiEncoderModel(base, device="cpu", model_kwargs={"use_safetensors": True})
        PeftModel.from_pretrained(transformer_of(student), tuned).merge_and_unload()
        student.save_pretrained(str(folder), create_model_card=False)
    else:
        with weights_apart(quiet=True):  # the adapter brings the head
            model = AutoModelForSequenceClassification.from_pretrained(
                base, num_labels=1, use_safetensors=True
            )
        model.bert = PeftModel.from_pretrained(model.bert, tuned).merge_and_unload()
        PeftModel.from_pretrained(model, ASSETS / part).merge_and_unload().save_pretrained(folder)
        AutoTokenizer.from_pretrained(base).save_pretrained(folder)
