"""An error as the user sees it: one or two lines that say what is wrong."""

import dataclasses
import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException
from transformers import TrainingArguments

from rankdistill.commands.words import ambiguous
from rankdistill.errors import InputError, disk_refuses, within
from rankdistill.runtime.environment import cache_folder
from rankdistill.runtime.pruning import shown

ARGUMENTS = sorted(field.name for field in dataclasses.fields(TrainingArguments))
LAUNCHERS = {name: f"hydra-{name}-launcher" for name in ("joblib", "submitit")}  # packages of their own
OWN = {"seed": "seed", "data_seed": "seed", "output_dir": "hydra.run.dir"}  # arguments that a run sets itself


def explain(error: BaseException) -> str | None:
    """One or two lines that name what is wrong in the input, or None if the fault isn't there."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, InstantiationException):
        cause = error.__cause__
        key = re.search(r"full_key: (.*)", str(error))
        if isinstance(cause, InputError):
            return str(within(key[1] if key else "", cause))
        if isinstance(cause, (TypeError, ValueError, ImportError, AttributeError)):
            return f"{key[1] if key else 'configuration'}: {' '.join(str(cause).split())}"
        return None if cause is not None else " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group == "hydra/launcher" and (package := LAUNCHERS.get(name.partition("_")[0])):
            return f"{group}={name}: it is not installed: pip install {package}"
        return f"{group}={name}: no such option; {choices(name, error.options)}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        place = f"{error.problem_mark.name}:{error.problem_mark.line + 1}"
        return f"{place}: no YAML: {error.problem or error.context}"
    if isinstance(error, (yaml.YAMLError, UnicodeDecodeError)):
        return f"a configuration file is no YAML in UTF-8 ({' '.join(str(error).split())})"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}: must be given, as {error.full_key}=..."
    if isinstance(error, InterpolationResolutionError):
        return f"{error.full_key}: {' '.join(str(error.msg or error).split(chr(10))[0].split())}"
    if match := re.match(r"In '(.+)': Could not override '(.+)'\. No match in the defaults list", str(error)):
        return f"{match[1]}: it overrides {match[2]}, which this command does not have; is it for another?"
    if match := re.match(r"Could not override '(.+?)'\. No match in the defaults list", str(error)):
        return f"{match[1]}: this command has no such part, or it has another name; --help says what it has"
    if match := re.match(r"Ambiguous value for argument '(.+?)'\n1\. To use", str(error), re.DOTALL):
        return ambiguous(match[1])
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return misspelt(error) or " ".join(str(error).split("\nSee https")[0].split())
    if isinstance(error, ValueError) and "defaults must be a list" in str(error):
        return " ".join(str(error).split()) + "; a line of it begins with a hyphen: - override /sampler: hard"
    if isinstance(error, ValueError) and "Config group override" in str(error):
        return "a configuration group cannot be null or a number; leave it out, or name one of its options"
    if match := re.match(r"Invalid loaded object type: (\w+)", str(error)):
        return (
            f"a configuration file holds one {match[1]}, where fields are expected, such as seed: 1; look at "
            "the files of --config-dir that were chosen"
        )
    again = "start the same command with the same hydra.run.dir (hydra.sweep.dir in a sweep): it resumes"
    if reason := disk_refuses(error):
        where = getattr(error, "filename", None)
        if where is None and "make room" in reason:
            reason += f" ({room()})"
        return f"{where}: {reason}; then {again}" if where else f"{reason}; then {again}"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}; fix that, or write elsewhere: hydra.run.dir=..."
    if getattr(error, "errno", None) in (errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM):
        return (
            f"a file cannot be read or written ({getattr(error, 'strerror', None)}): fix that, then {again}"
        )
    return None


def room() -> str:
    """How much is left on each disk that a run writes to, the fullest first, and what puts it on another."""
    places = [("RANKDISTILL_CACHE", cache_folder()), ("TMPDIR", Path(os.environ.get("TMPDIR") or "/tmp"))]
    runtime: Any = HydraConfig.get().runtime if HydraConfig.initialized() else {}
    if run := runtime.get("output_dir"):
        places.insert(0, ("hydra.run.dir", Path(run)))
    spaces = []
    for name, folder in places:
        with suppress(OSError, StopIteration):
            there = next(above for above in (folder, *folder.absolute().parents) if above.exists())
            spaces.append((shutil.disk_usage(there).free, f"in {folder} ({name})"))
    return "left are " + ", ".join(f"{shown(free)} {place}" for free, place in sorted(spaces))


def misspelt(error: BaseException) -> str | None:
    """For a field that isn't there: its full name, and the fields that are."""
    match = re.search(r"Could not (?:override|delete|append to) '([\w.@/]+)'|Could not override", str(error))
    cause = error.__cause__ if error.__cause__ is not None else error
    node = getattr(cause, "parent_node", None)
    key = match[1] if match and match[1] else getattr(cause, "full_key", None)
    if not key or node is None or not isinstance(node, DictConfig):
        return None
    fields = sorted(str(name) for name in node if name != "_target_") if node else []
    if re.search(r"\btrainer\.\w+$", key):
        fields = ARGUMENTS
    if not fields:
        parent, _, name = key.rpartition(".")
        return f"{key}: {parent} has no fields here; give it some, as {parent}={{{name}:...}}"
    name = key.split(".")[-1]
    root: Any = OmegaConf.to_container(node._get_root(), resolve=False)
    argument = OWN.get(name, f"trainer.{name}")
    if homes := [argument] if name in ARGUMENTS and "trainer" in root else [*places(root, name)]:
        return f"{key}: no such field here; it is {' or '.join(homes)}"
    return f"{key}: no such field; {choices(name, fields)}"


def places(config: dict, name: str) -> Iterator[str]:
    """The full names of the fields of ``config``, at any depth, that are called ``name``."""
    for key, value in config.items():
        if key == name:
            yield str(key)
        if isinstance(value, dict):
            yield from (f"{key}.{inner}" for inner in places(value, name))


def choices(name: str, known: Sequence[str]) -> str:
    """What somebody may have meant by ``name``, and what there is."""
    close = get_close_matches(name, known, n=1) or [field for field in known if name in field]
    hint = f"did you mean {close[0]}? " if close else ""
    shown = ", ".join(known) if known is not ARGUMENTS else "the fields of transformers' TrainingArguments"
    return f"{hint}available: {shown}"
