"""Whether the fields of a configuration are of the kinds that its targets declare."""

import inspect
import logging
import math
import sys
import sysconfig
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from rankdistill.errors import InputError
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.checked import alternatives
from rankdistill.runtime.folders import checksum

KINDS = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a text",
    dict: "a group of fields",
    Mapping: "a group of fields",
    NoneType: "null",
}

OF_HYDRA = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


def check_targets(config: Any) -> None:
    """Raises ``InputError`` for a field in ``config`` whose value its ``_target_`` cannot take."""
    if not isinstance(config, DictConfig):
        return
    if "_target_" in config:
        if not isinstance(config._target_, str):
            raise InputError(
                f"{config._get_full_key('_target_')}={config._target_!r}: it must be a name with dots"
            )
        target = target_of(config._target_, config._get_full_key("_target_"))
        check_known(config, target)
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
        for name in config:
            if name in hints and not OmegaConf.is_missing(config, name):
                check_value(config._get_full_key(name), config[name], hints[name])
    for name in config:
        if not OmegaConf.is_missing(config, name):
            check_targets(config[name])


def target_of(name: str, field: str) -> Any:
    """What ``name``, as a.module.Class, is; raises ``InputError``, of ``field``, if there is none."""
    hydra = logging.getLogger("hydra.utils")
    was, hydra.disabled = hydra.disabled, True  # it logs three lines of what is raised
    try:
        return get_object(name)
    except (ImportError, ValueError) as error:
        reason = _why_not(name, error.__cause__ or error)
    finally:
        hydra.disabled = was
    raise InputError(f"{field}: {name} cannot be found: {reason}")


def own_code(config: Any) -> dict[str, str]:
    """``code``: the fingerprint of the files of each ``_target_`` in ``config`` that is neither ours nor
    installed; {} where there is none."""
    installed = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")]
    files = set()
    for target in _targets(config):
        with suppress(TypeError):  # of what is compiled
            file = inspect.getsourcefile(target_of(target, "_target_"))
            if file and not any(Path(file).is_relative_to(folder) for folder in installed):
                files.add(Path(file))
    return {"code": fingerprint(*sorted(checksum(file) for file in files))} if files else {}


def _targets(config: Any) -> Iterator[str]:
    """Every ``_target_`` in ``config`` but the library's."""
    if not isinstance(config, DictConfig | ListConfig):
        return
    parts: Any = range(len(config)) if isinstance(config, ListConfig) else list(config)
    for name in parts:
        if OmegaConf.is_missing(config, name):
            continue
        value = config[name]
        if name == "_target_" and value.partition(".")[0] != "rankdistill":
            yield value
        yield from _targets(value)


def _why_not(name: str, error: BaseException) -> str:
    parts = name.split(".")
    if isinstance(error, ModuleNotFoundError) and error.name == parts[0]:
        return f"no module {parts[0]}; install it, or name its folder in PYTHONPATH"
    if isinstance(error, AttributeError | ModuleNotFoundError):
        for i in range(len(parts) - 1, 0, -1):
            there = sys.modules.get(".".join(parts[:i]))
            if there is not None and not hasattr(there, parts[i]):
                close = get_close_matches(parts[i], dir(there), 1)
                hint = f"; did you mean {close[0]}?" if close else ""
                return f"{there.__name__} has no {parts[i]}{hint}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def check_known(config: DictConfig, target: Any) -> None:
    """Raises ``InputError`` for a field of ``config`` that ``target`` does not take."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:  # of a few that are written in C
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters]
    for name in map(str, config):
        if name not in known and name not in OF_HYDRA:
            raise InputError(
                f"{config._get_full_key(name)}: no such field of {option_of(config)}; available: "
                f"{', '.join(known) or 'none'}"
            )


def option_of(config: DictConfig) -> str:
    """The option that ``config`` was chosen by, as data=beir; what it makes where a command chose none."""
    part = str(config._get_full_key(None))
    chosen = HydraConfig.get().runtime.choices.get(part) if HydraConfig.initialized() else None
    return f"{part}={chosen}" if chosen else config._target_


def check_fields(config: DictConfig, kinds: Mapping[str, Any]) -> None:
    """Raises ``InputError`` for a field of ``kinds`` (dotted name -> type) that is of another kind."""
    for name, kind in kinds.items():
        check_value(name, OmegaConf.select(config, name), kind)


def check_value(name: str, value: Any, kind: Any) -> None:
    """Raises ``InputError`` unless ``value`` fits ``kind``, a type or a union of them."""
    if not fits(value, kind):
        wanted = dict.fromkeys(text for one in alternatives(kind) for text in _words(one))
        raise InputError(f"{name}={value!r}: it must be {' or '.join(wanted)}")


def _words(kind: Any) -> Sequence[str]:
    """What a value of ``kind`` is, in words; of a choice each."""
    origin = typing.get_origin(kind) or kind
    if origin is typing.Literal:
        return [repr(choice) for choice in typing.get_args(kind)]
    if origin in (Sequence, list, tuple):
        return ["a list"]
    return [KINDS.get(origin, "a group of fields with a _target_")]


def fits(value: Any, kind: Any) -> bool:
    """Whether ``value``, from a YAML file, can be what ``kind`` says; what isn't plain passes."""
    for alternative in alternatives(kind):
        origin = typing.get_origin(alternative) or alternative
        if origin is typing.Literal:
            fit = isinstance(value, tuple({type(choice) for choice in typing.get_args(alternative)}))
        elif origin is float:
            fit = type(value) in (int, float) and not math.isnan(value)
        elif origin in (Mapping, dict):
            fit = OmegaConf.is_dict(value)
        elif origin in KINDS:
            fit = type(value) is origin
        elif origin in (Sequence, list, tuple):
            fit = OmegaConf.is_list(value) or isinstance(value, str)
        else:  # an object: what a target makes
            fit = alternative is Any or not isinstance(origin, type) or OmegaConf.is_dict(value)
        if fit:
            return True
    return False
