"""The models that a configuration names, looked for before anything long is done."""

import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rankdistill.errors import InputError
from rankdistill.runtime.fields import alternatives, target_of
from rankdistill.students.there import ModelName, check_there


def check_models(*parts: Any) -> None:
    """Raises ``InputError`` for a model in ``parts`` of a configuration that cannot be had.

    A parameter of a target that names a model is a ``ModelName``. The field is that which sets it, where
    others are interpolations of it.
    """
    asked: set[str] = set()
    for field, value in (found for part in parts for found in named_models(part)):
        if not isinstance(value, str):
            raise InputError(f"{field}={value!r}: it must be a folder or a name on the model hub")
        if value not in asked:
            asked.add(value)
            check_model(value, field)


def check_model(name: str, field: str) -> None:
    """Raises ``InputError`` that begins with ``field`` if the model ``name`` cannot be had."""
    try:
        check_there(name)
    except InputError as error:
        raise InputError(f"{field}: {error}") from None


def named_models(config: Any) -> Iterator[tuple[str, Any]]:
    """(field, value) of each in ``config``, at any depth."""
    if OmegaConf.is_list(config):
        for part in config:
            yield from named_models(part)
    if not isinstance(config, DictConfig):
        return
    hints: dict[str, Any] = {}
    if isinstance(name := config.get("_target_"), str):
        target = target_of(name, config._get_full_key("_target_"))
        made = target.__init__ if inspect.isclass(target) else target
        hints = typing.get_type_hints(made, include_extras=True)
    for key in config:
        if OmegaConf.is_missing(config, key) or (value := config[key]) is None:
            continue
        if ModelName in (hint := hints.get(str(key)), *alternatives(hint)):
            yield set_by(config, str(key)), value
        yield from named_models(value)


def set_by(config: DictConfig, key: str) -> str:
    """The full name of the field whose value ``config[key]`` is: another one's if that is interpolated."""
    whole, field = config._get_root(), config._get_full_key(key)
    written: Any = OmegaConf.to_container(whole, resolve=False)
    while True:
        value = written
        for part in field.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        other = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
        if other is None:
            return field
        field = other[1]
