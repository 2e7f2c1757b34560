"""The JSON files of a model's folder: there, whole, and of the shape that they must be."""

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sentence_transformers import SimilarityFunction

from rankdistill.errors import InputError

NEEDED = {  # by the class of a module, what its folder must hold; without it defaults would be taken
    "Router": "router_config.json",
    "StaticEmbedding": "tokenizer.json",
    **dict.fromkeys(("Dense", "LayerNorm", "MultiVectorMask", "Pooling", "SpladePooling"), "config.json"),
}
READ = {  # by the libraries; others may be there, such as data_config.json, what a model was trained on
    *("config.json", "tokenizer_config.json", "special_tokens_map.json", "config_sentence_transformers.json"),
    *("router_config.json", "adapter_config.json"),
}
LARGE = "tokenizer.json"  # megabytes: read only where it is needed
OWN = "config_sentence_transformers.json"
COMPARES = (*SimilarityFunction.possible_values(), "maxsim", "meanmaxsim")  # the latter of late interaction
FORMER = "sentence_transformers.models."  # how types began when that file was not always written


def read_settings(file: Path, kind: type = dict) -> Any:
    """What is in the JSON ``file``; raises ``InputError`` if it is cut, no UTF-8, or not of ``kind``."""
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:  # a link to what is gone
        raise InputError(f"{file}: missing; get the file again") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = "empty" if file.is_file() and not file.stat().st_size else " ".join(str(error).split())
        raise InputError(f"{file}: damaged ({reason}); get the file again") from None
    if not isinstance(settings, kind):
        wanted = "an object" if kind is dict else "a list of objects"
        raise InputError(f"{file}: damaged (it must hold {wanted}); get the file again")
    return settings


def check_settings(folder: Path) -> None:
    """Raises ``InputError`` with the first file of the model in ``folder`` that is damaged or missing."""
    modules = list(_modules(folder))
    for place, name in [(folder, ""), *modules]:
        for file in sorted(place.glob("*.json")):
            if file.name in READ or fnmatchcase(file.name, "sentence_*_config.json"):
                read_settings(file)
        needed = NEEDED.get(name.rpartition(".")[2], "")
        if place.is_dir() and not (place / needed).exists():
            raise InputError(f"{place / needed}: missing; get the file again")
    compares = read_settings(folder / OWN).get("similarity_fn_name") if (folder / OWN).exists() else None
    if compares is not None and str(compares).lower() not in COMPARES:
        raise InputError(
            f"{folder / OWN}: similarity_fn_name is {compares!r}; available: {', '.join(COMPARES)}"
        )
    ours = [name for _, name in modules if name.startswith("sentence_transformers.")]
    if not (folder / OWN).exists() and any(not name.startswith(FORMER) for name in ours):
        raise InputError(f"{folder / OWN}: missing, and with it the prompts; get the file again")


def check_tokenizers(folder: Path) -> None:
    """As ``check_settings``, of each tokenizer.json."""
    for place in dict.fromkeys([folder, *(place for place, _ in _modules(folder))]):
        if (place / LARGE).exists():
            read_settings(place / LARGE)


def _modules(folder: Path) -> Iterator[tuple[Path, str]]:
    """The folder and type of each module of the model in ``folder``, those inside of others too."""
    if not (folder / "modules.json").exists():
        return
    for module in read_settings(folder / "modules.json", list):
        if not isinstance(module, dict) or not all(isinstance(module.get(x), str) for x in ("path", "type")):
            raise InputError(
                f"{folder / 'modules.json'}: damaged (each module must have a path and a type); get the file "
                "again"
            )
        place = folder / module["path"]
        yield place, module["type"]
        router = place / NEEDED["Router"]
        if module["type"].endswith(".Router") and router.exists():
            types = read_settings(router).get("types")
            if not isinstance(types, dict) or not all(isinstance(name, str) for name in types.values()):
                raise InputError(f"{router}: damaged (it must have types); get the file again")
            yield from ((place / path, name) for path, name in types.items())
