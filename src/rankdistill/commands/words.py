"""The words of a command line: values that Hydra's grammar has no place for, and ``~``."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from rankdistill.errors import InputError

FIELD = re.compile(r"([+~]{0,2}[\w@./:-]+)=(.*)", re.DOTALL)
FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp")  # Hydra's options that name one


def config_folder() -> Path:
    """``configs``: in the installed package, or at the top of a checkout."""
    here = Path(__file__).resolve()
    installed = here.parents[1] / "configs"
    return installed if installed.is_dir() else here.parents[3] / "configs"


def readable(arguments: Sequence[str]) -> list[str]:
    """``arguments`` as Hydra can read them: ``~`` expanded, and quoted what can only be a text.

    That is the path of something that exists, and a word that but for letters beyond ASCII is one. Raises
    ``InputError`` for any other value that Hydra cannot read, with the form that it can.
    """
    words = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, _, value = argument.partition("=")
        if option in FOLDERS or before in FOLDERS:
            words.append(f"{option}={_at_home(value)}" if value else _at_home(argument))
        elif (match := FIELD.fullmatch(argument)) and not argument.startswith("-"):
            check_one_option(match[1], match[2])
            words.append(f"{match[1]}={_value(match[1], match[2])}")
        else:
            words.append(argument)
    return words


def check_one_option(field: str, value: str) -> None:
    """Raises ``InputError`` for several options of a group, which Hydra would lay one over the other."""
    group = field.lstrip("+~").partition("@")[0]
    if value.startswith("[") and group != "experiment" and (config_folder() / group).is_dir():
        options = value.strip("[] ").replace(" ", "")
        raise InputError(
            f"{field}={value}: one option is chosen; for a run of each of them: -m {field}={options}"
        )


def expand_home(config: DictConfig | ListConfig) -> None:
    """Expands ``~`` at the beginning of the texts in ``config``, at any depth; ``${...}`` stays in them."""
    written: Any = OmegaConf.to_container(config, resolve=False)  # of a mapping or a list
    for key, value in written.items() if isinstance(written, dict) else enumerate(written):
        if isinstance(value, (dict, list)):
            expand_home(config[key])
        elif isinstance(value, str) and value != _at_home(value):
            config[key] = _at_home(value)


class HomeFolders(Callback):
    """Expands ``~`` in ``hydra.run.dir`` and ``hydra.sweep.dir`` of a file, before Hydra makes the folder."""

    def on_run_start(self, config: DictConfig, **kwargs) -> None:
        with read_write(config):
            expand_home(config.hydra.run)

    def on_multirun_start(self, config: DictConfig, **kwargs) -> None:
        before = _written_folder(config)
        with read_write(config), open_dict(config):
            expand_home(config.hydra.sweep)
            folder = _written_folder(config)
            if folder != before:  # each job's configuration is composed again
                words = (word for word in _quoted(folder) if _says(word, folder))
                config.hydra.overrides.hydra.append(f"hydra.sweep.dir={next(words, folder)}")


def _written_folder(config: DictConfig) -> str:
    """``hydra.sweep.dir``, its ``${...}`` as they are."""
    sweep: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    return sweep["dir"]


def _at_home(text: str) -> str:
    return os.path.expanduser(text) if re.match(r"~(/|$)", text) else text


def ambiguous(argument: str) -> str:
    """What to say of ``argument``, a,b without ``-m``."""
    field, _, value = argument.partition("=")
    text = next((word for word in _quoted(value) if _says(word, value)), value)
    return (
        f"{argument}: several values, for a sweep (-m); one text is {shlex.quote(f'{field}={text}')}, a list "
        f"{shlex.quote(f'{field}=[{value}]')}"
    )


def _value(field: str, value: str) -> str:
    """``value`` as Hydra reads it; see ``readable``."""
    value = _at_home(value)
    read = _read(value)
    if read is not None and read.is_range_sweep() and next(read.sweep_iterator(), None) is None:
        raise InputError(f"{field}={value}: there is no number in it, and no run would be started")
    if read is not None and not (read.is_sweep_override() and _exists(value)):
        return value
    text = next((word for word in _quoted(value) if _says(word, value)), None)
    if text is not None and (_exists(value) or _plain(value)):
        return text
    if (inner := _elements(value)) is not None and _read(inner) is not None:
        text = inner
    shown = f"; quoted it can: {shlex.quote(f'{field}={text}')}" if text is not None else ""
    raise InputError(f"{field}={value}: Hydra cannot read this value{shown}")


def _exists(value: str) -> bool:
    try:
        return bool(value) and Path(value).exists()
    except (OSError, ValueError):
        return False


def _plain(value: str) -> bool:
    """Whether ``value`` is a word but for its letters beyond ASCII."""
    if value.isascii():
        return False
    ascii_alone = "".join(letter if letter.isascii() else "x" for letter in value)
    read = _read(ascii_alone)
    return read is not None and not read.is_sweep_override() and read.value() == ascii_alone


def _read(value: str):
    """What Hydra makes of ``value``, or None."""
    try:
        return _parser().parse_override(f"x={value}")
    except (HydraException, ValueError):
        return None


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _quoted(text: str) -> Iterator[str]:
    """Ways to write ``text`` in quotes, of which at least one says it."""
    for quote in "\"'":
        yield f"{quote}{text}{quote}"
        escaped = re.sub(rf"(\\*){quote}", rf"\1\1\\{quote}", text)
        yield quote + re.sub(r"(\\+)$", r"\1\1", escaped) + quote


def _says(word: str, text: str) -> bool:
    read = _read(word)
    return read is not None and not read.is_sweep_override() and read.value() == text


def _elements(value: str) -> str | None:
    """A list, or a mapping of simple keys, with each of its texts in quotes; None of anything else."""
    if not re.fullmatch(r"\[.*\]|\{\w+:.*\}", value, re.DOTALL):
        return None
    parts, depth = [""], 0
    for letter in value[1:-1]:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    quoted = []
    for part in parts:
        key, colon, text = part.partition(":") if value[0] == "{" else ("", "", part)
        if _read(text) is None or not text.isascii():
            text = next((word for word in _quoted(text.strip()) if _says(word, text.strip())), text)
        quoted.append(key + colon + text)
    return value[0] + ",".join(quoted) + value[-1]
