"""What the commands share: where configurations are, and how errors end."""

import codecs
import functools
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn

import hydra
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from tqdm.auto import tqdm
from transformers.utils.logging import disable_progress_bar

from rankdistill.commands.explain import ARGUMENTS, choices, explain
from rankdistill.commands.overruled import check_overruled
from rankdistill.commands.words import config_folder, expand_home, readable
from rankdistill.errors import InputError
from rankdistill.runtime import processes
from rankdistill.runtime.fields import check_targets
from rankdistill.runtime.folders import RunFolder, RunLog
from rankdistill.runtime.output import output_kept

log = logging.getLogger(__name__)


def make(config: Any, kind: type | UnionType = object) -> Any:
    """The object that ``config`` describes, made of plain Python containers; None of a ``config`` that is.

    Raises ``InputError`` for a field of the wrong kind or refused, or if the object isn't of ``kind``.
    """
    check_targets(config)
    try:
        thing = instantiate(config, _convert_="all")
    except InstantiationException as error:
        if (message := explain(error)) is None:
            raise
        raise InputError(message) from error
    if not isinstance(thing, kind):
        raise InputError(
            f"{config._get_full_key(None)}: makes a {type(thing).__name__}, not a "
            f"{getattr(kind, '__name__', kind)}"
        )
    return thing


def check_names(config: DictConfig, config_name: str) -> None:
    """Raises ``InputError`` for a field at the top of ``config`` that no command reads.

    A user's own file has such a field if it lacks ``# @package _global_``: its folder's name.
    """
    base = OmegaConf.load(config_folder() / f"{config_name}.yaml")
    entries = [next(iter(entry)) for entry in base.defaults if OmegaConf.is_dict(entry)]
    groups = [name for name in entries if not name.startswith("override ")]
    stages = [str(name) for name in config.get("stages") or [] if OmegaConf.is_list(config.stages)]
    known = sorted({*groups, *base, *stages} - {"defaults", "hydra"})
    if missing := [name for name in known if name not in config and name not in stages]:
        raise InputError(f"{missing[0]}: missing; compose(...) makes a whole configuration")
    hint = "a file of your own begins with the line # @package _global_"
    choice = HydraConfig.get().runtime.choices.get("experiment") if HydraConfig.initialized() else None
    if choice and config_name != "config":
        hint = f"is experiment={choice} for rankdistill train?"
    if (marked := next(byte_marked(), None)) is not None:
        hint = f"{marked} begins with a byte order mark, which hides its first line: save it without"
    for name in map(str, config):
        if name not in known:
            raise InputError(f"{name}: no such field; {choices(name, known)} ({hint})")
        if name in groups and isinstance(config[name], str):
            raise InputError(
                f"{name}={config[name]}: a file chooses an option under defaults, as - override "
                f"/{name}: {config[name]}"
            )


def byte_marked() -> Iterator[Path]:
    """A user's configuration files that begin with a byte order mark, which Hydra takes for a letter."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else []
    for source in sources:
        if source.schema == "file" and Path(source.path).resolve() != config_folder().resolve():
            for file in sorted(Path(source.path).rglob("*.yaml")):
                with open(file, "rb") as opened:
                    if opened.read(3) == codecs.BOM_UTF8:
                        yield file


def make_retrievers(config: DictConfig) -> dict[str, Any]:
    """Those of ``config``, a name -> retriever; one that is null is left out.

    Raises ``InputError`` if there is none: pools of positives alone teach nothing.
    """
    retrievers = {str(name): retriever for name, retriever in make(config).items() if retriever is not None}
    if not retrievers:
        raise InputError(f"{config._get_full_key(None)}: no retriever, and so no negatives; give one or more")
    return retrievers


def compose(*overrides: str, name: str = "config") -> DictConfig:
    """The configuration of ``rankdistill train *overrides`` (``name``: of another command).

    Raises ``InputError`` for an override that the command would refuse.
    """
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            config = hydra.compose(name, overrides=[open_field(word) for word in readable(overrides)])
        check_overruled(config, overrides)
        return config
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        raise InputError(message) from None


class Stopped(KeyboardInterrupt):
    """What SIGTERM and SIGHUP raise: a run ends as with Ctrl-C, its files whole, its lock released."""


def status_of(stopped: KeyboardInterrupt) -> int:
    """The exit status of a command that was ``stopped`` by SIGTERM or SIGHUP, or by Ctrl-C."""
    return 143 if isinstance(stopped, Stopped) else 130


def end_on_signals() -> None:
    """SIGTERM and SIGHUP raise ``Stopped`` in this process; one forked from it ends at once.

    A SIGHUP that is ignored, as under nohup, stays so.

    Neither it nor Ctrl-C is lost in a finalizer, where Python prints an exception and continues.
    """
    own = os.getpid()

    def stop(number, frame):
        if os.getpid() != own:
            os._exit(128 + number)
        raise Stopped

    def ignored(found):
        if os.getpid() != own or not issubclass(found.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(found)
            return
        number = signal.SIGTERM if issubclass(found.exc_type, Stopped) else signal.SIGINT
        again = threading.Timer(0.01, os.kill, (own, number))  # once the finalizer has ended
        again.daemon = True
        again.start()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # not on Windows
            signal.signal(signal.SIGHUP, stop)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it was another while modules were imported
        sys.unraisablehook = ignored


@output_kept()
def command(run: Callable[[DictConfig, RunFolder], Any], config_name: str) -> None:
    """Runs ``run`` with the composed configuration; bad input ends in one line and status 2."""
    end_on_signals()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # else Hydra prints the error and exits
    again = ["the same command"]
    accepted: list[bool] = []  # of each job that was started in this process

    @functools.wraps(run)
    def logged(config: DictConfig):
        sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        quieten()  # here: a sweep's job may have a process of its own
        try:
            if processes.count() > 1 and sweep:
                raise InputError("a sweep's jobs run in one process each; start them without torchrun")
            path = run_folder()
            again[1:] = [f"hydra.sweep.dir={path.parent}" if sweep else f"hydra.run.dir={path}"]
            expand_home(config)
            check_names(config, config_name)
            check_overruled(config, list(HydraConfig.get().overrides.task))
            accepted.append(False)
            with folder_of(config, path) as folder:
                try:
                    return run(config, folder)
                except Exception as error:
                    keep(explain(error) or traceback.format_exc())
                    raise
                finally:
                    accepted[-1] = folder.accepted
        except Exception as error:
            message = explain(error)
            if sweep:
                show(message or traceback.format_exc())
            elif message:
                fail(message)  # here, before Hydra repeats the command line
            raise

    notes = sweep_notes(sys.argv[1:])
    try:
        processes.join()
        sys.argv[1:] = [open_field(argument) for argument in readable(sys.argv[1:])]
        if not processes.is_main():
            sys.argv[1:] = quiet(sys.argv[1:])
            logging.disable(logging.WARNING)  # the main process says the same
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=config_name)(logged)()
        processes.wait()  # a process that leaves while others work may end in an abort
    except KeyboardInterrupt as stopped:
        if processes.is_main():
            word = "terminated" if isinstance(stopped, Stopped) else "interrupted"
            print(f"\n{word}; it resumes with {' and '.join(again)}", file=sys.stderr)
        sys.exit(status_of(stopped))
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        fail(message)
    finally:
        if accepted and not any(accepted):
            for path, contents in notes.items():
                path.write_bytes(contents)
        processes.leave()


def quieten() -> None:
    """Leaves out what other libraries say of their own steps."""
    for name in ("faiss.loader", "bm25s", "httpx", "fontTools", "sentence_transformers"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what it tried; how it ended is said
    disable_progress_bar()  # of loading weights, which takes no time


def folder_of(config: DictConfig, path: Path) -> RunFolder:
    """Hydra's folder ``path`` of this run, with what was set on the command line."""
    hydra_config = HydraConfig.get()
    choices = {
        name: str(value) for name, value in hydra_config.runtime.choices.items() if "hydra/" not in name
    }
    for handler in list(logging.getLogger().handlers):  # those of a hydra/job_logging that was asked for
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).parent == path:
            logging.getLogger().removeHandler(handler)
            handler.close()
    settings: Any = OmegaConf.to_container(
        hydra_config.overrides.task, resolve=False
    )  # ${...} means this config
    return RunFolder(path, config, settings, choices, hydra_config.job.name)


def sweep_notes(arguments: Sequence[str]) -> dict[Path, bytes]:
    """Hydra's note of an earlier sweep in the same folder, which it overwrites before any job is refused."""
    folders = [
        word.partition("=")[2].strip("'\"") for word in arguments if word.startswith("hydra.sweep.dir=")
    ]
    files = [Path(folder) / "multirun.yaml" for folder in folders]
    return {file: file.read_bytes() for file in files if file.is_file()}


def fail(message: str) -> NoReturn:
    tqdm.write(f"error: {message}", file=sys.stderr)  # a line of its own, whatever bar was cut off
    sys.exit(2)


def quiet(arguments: Sequence[str]) -> list[str]:
    """``arguments`` for a process that leaves Hydra's folder and log to the main one."""
    others = [argument for argument in arguments if not argument.startswith("hydra.run.dir=")]
    silent = ["hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none"]
    return [*others, *silent, f"hydra.run.dir={tempfile.gettempdir()}"]


def run_folder() -> Path:
    """Hydra's folder of this run, the main process's."""
    return Path(processes.broadcast(HydraConfig.get().runtime.output_dir))


def keep(message: str) -> None:
    """Into the run's log."""
    _handle(message, lambda handler: isinstance(handler, RunLog))


def show(message: str) -> None:
    """On the screen: a sweep goes on, and Hydra shows but the first failure."""
    _handle(message, lambda handler: not isinstance(handler, RunLog))


def _handle(message: str, wanted: Callable[[logging.Handler], bool]) -> None:
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, message, (), None)
    for handler in filter(wanted, logging.getLogger().handlers):
        handler.handle(record)


def open_field(argument: str) -> str:
    """``trainer.x=...`` as ``++trainer.x=...``: any of TrainingArguments may be set, or several at once."""
    match = re.match(r"(?:\w+\.)?trainer\.(\w+)=", argument)
    several = re.match(r"(?:\w+\.trainer|distillation)=\{", argument)
    return f"++{argument}" if several or (match and match[1] in ARGUMENTS) else argument
