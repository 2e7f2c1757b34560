"""Whether a model can be had, asked before anything long is done."""

import os
from contextlib import nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from sentence_transformers.util import load_file_path

from rankdistill.errors import InputError
from rankdistill.runtime.environment import cache_folder
from rankdistill.runtime.reach import asking_hub
from rankdistill.students.minilm import HUB_NAME, minilm_path

ModelName = Annotated[str, "a folder or a name on a hub"]  # how a parameter says that it names a model
BUILT_IN = ("minilm", "demo", "demo_bi_encoder")  # models that are no folders and on no hub
FILES = ("modules.json", "config.json", "adapter_config.json")  # of which a model has one at least


def name_of(model: Any) -> str:
    """``model`` as a text; raises ``InputError`` unless it is one, or a path."""
    if not isinstance(model, str | os.PathLike) or not os.fspath(model):
        raise InputError(f"model={model!r:.60}: it must be a folder or a name on the model hub")
    return os.fspath(model)


def place_of(model: str) -> str:
    """The folder of what is installed as ``model``, else itself."""
    return minilm_path() if model in ("minilm", HUB_NAME) else model


def check_there(model: Any) -> None:
    """Raises ``InputError`` unless ``model`` is built in, a folder, or on a hub, or came from there before.

    A hub out of reach is asked once and briefly. What is wrong with the files shows when it is loaded.
    """
    name = place_of(name_of(model))
    if name in BUILT_IN:
        return
    with nullcontext() if Path(name).is_dir() else asking_hub():
        try:
            if any(load_file_path(name, file) for file in FILES):
                return
            reason = f"it has neither {' nor '.join(FILES)}"
            if (Path(name) / "model").is_dir():
                reason += f"; is it {Path(name) / 'model'}?"
            elif constants.HF_HUB_OFFLINE:
                reason = "couldn't connect to the model hub, and it did not come from there before"
        except RepositoryNotFoundError:
            reason = "no such folder, and the hub has no such model, or does not show it without a token"
        except (HfHubHTTPError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
    raise cannot_be_loaded(name, reason)


def cannot_be_loaded(model: str, reason: str) -> InputError:
    """What is said of a ``model`` for this ``reason``."""
    if Path(model).is_relative_to(cache_folder()) and not Path(model).is_dir():
        return InputError(f"{model}: removed from the cache meanwhile; start the same command again")
    if model.startswith((".", "/", "~")) and not Path(model).is_dir():
        reason = "no such folder"
    elif "couldn't connect" in reason.lower():
        reason = f"no such folder, and {reason}"
    if "/" not in model and not Path(place_of(model)).is_dir():
        close = get_close_matches(model, BUILT_IN, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        reason = f"{hint}built in are {BUILT_IN[0]}, and the teachers {', '.join(BUILT_IN[1:])}; {reason}"
    return InputError(
        f"model {model!r} cannot be loaded: {reason} (give a folder, or a name on a hub within reach, "
        "with weights in safetensors)"
    )
