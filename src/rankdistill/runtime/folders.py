"""A run's folder: what a run says of itself, written by the run alone, each file whole or not at all.

======================== ==================================================================
``run.json``             the configuration, and what was set on the command line
``config.yaml``          the configuration again, to be read and edited
``checkpoints/``         while it trains: what it may be resumed from, and ``identity.json``, of what
``conditions.json``      last: all that the results depend on, and their checksums; it is finished
======================== ==================================================================
"""

import csv
import hashlib
import io
import json
import logging
import logging.handlers
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from rankdistill.errors import InputError, disk_refuses
from rankdistill.runtime import processes
from rankdistill.runtime.cache import fingerprint, share, sync
from rankdistill.runtime.environment import precision

log = logging.getLogger(__name__)
FORMAT = "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"
ELSEWHERE = "give another hydra.run.dir (hydra.sweep.dir in a sweep)"
NOTES = ".written.json"  # of files that commands write where no run is, as a report beside the runs
SEAL = "checksums.json"  # the last file of a checkpoint, and of a finished stage
RESULTS = ("run.json", "per_query.csv", "metrics.json")  # what a report reads
WRITTEN = (  # what the commands write into a run's folder, but for a model, as patterns
    *("run.json", "config.yaml", "conditions.json", "metrics.json", "per_query.csv", "history.json"),
    *("run.trec.gz", "run_[0-9]*.trec.gz", "qrels.trec", "comparison.csv", "document_ids.json", "*.faiss"),
    *("plots", "torch", "openvino*", "teacher_*"),
)


def plain(config: DictConfig) -> dict:
    """``config`` as a plain dict, interpolations resolved."""
    return cast(dict, OmegaConf.to_container(config, resolve=True))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What the system refuses in here is told of ``path``, unless it says itself of which file."""
    try:
        yield
    except Exception as error:
        failed: Any = error  # a write that fails does not, nor do safetensors, faiss and torch
        if not getattr(error, "filename", None) and (getattr(error, "errno", None) or disk_refuses(error)):
            if isinstance(error, OSError) and error.errno is None:
                failed.strerror = str(error)  # which a file's name would take the place of
            failed.filename = str(path)
        raise


def is_special(path: Path) -> bool:
    """Whether ``path`` is there and a device or a pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place when it is on the disk, and is gone if that fails.

    Raises ``InputError`` for a ``path`` that is a device or a pipe, whose place no file is to take.
    """
    draft = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with naming(path):
            if is_special(path):
                raise InputError(f"{path}: not a regular file; name another")
            yield draft
            sync(draft)
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """``text`` as the file ``path``: all of it, or what was there before."""
    with written(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="")


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    write_text(path, out.getvalue())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")


def noted(folder: Path) -> dict[str, list[str]]:
    """Name -> SHA-256 of what commands wrote into ``folder``; [] of a file that is still written to."""
    try:
        found = json.loads((folder / NOTES).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def check_own(folder: Path, names: Iterable[str]) -> None:
    """Raises ``InputError`` for a file in ``folder``, one of ``names``, that is not as a command wrote it."""
    known = noted(folder)
    for name in names:
        path, sums = folder / name, known.get(name)
        own = sums is not None and path.is_file() and (not sums or checksum(path) in sums)
        if not own and (path.exists() or path.is_symlink()):
            why = "it was changed since it was written" if sums else "no such command wrote it"
            raise InputError(f"{path}: is there already, and {why}; move it away: it would be replaced")


def claim(folder: Path, name: str) -> Path:
    """The file ``name`` of ``folder``, which is written to from now on; see ``check_own``."""
    folder.mkdir(parents=True, exist_ok=True)
    check_own(folder, [name])
    write_json(folder / NOTES, noted(folder) | {name: []})
    return folder / name


@contextmanager
def own_files(folder: Path) -> Iterator[Path]:
    """An empty folder whose files then take their places in ``folder``: all of them, or none if that fails.

    A file that is there already is replaced only if it is as a command wrote it; see ``check_own``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drafts = Path(tempfile.mkdtemp(prefix=".", suffix=".drafts", dir=folder))
    try:
        yield drafts
        files = {path.name: path for path in sorted(drafts.iterdir())}
        check_own(folder, files)
        known, new = noted(folder), {name: checksum(path) for name, path in files.items()}
        both = {name: [*known.get(name, [])[-1:], new[name]] for name in new}
        write_json(folder / NOTES, known | both)  # if it is killed here, it wrote either
        for name, path in files.items():
            path.replace(folder / name)
    except OSError as error:
        if error.filename and Path(error.filename).parent == drafts:
            error.filename = str(folder / Path(error.filename).name)
        raise
    finally:
        shutil.rmtree(drafts, ignore_errors=True)


def read_json(path: Path, kind: type, remedy: str) -> Any:
    """What the JSON file ``path`` holds; raises ``InputError`` with ``remedy`` if that isn't a ``kind``."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: missing; {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({_reason(error)}); {remedy}") from None
    if not isinstance(value, kind):
        raise InputError(f"{path}: damaged (a {type(value).__name__}, not a {kind.__name__}); {remedy}")
    return value


def _reason(error: BaseException | None) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error).split("\n")[0]


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(folder: Path, checksums: Mapping[str, str], remedy: str) -> None:
    """Raises ``InputError`` with ``remedy`` for a file of ``folder`` that is not as it was written."""
    for name, expected in checksums.items():
        path = folder / str(name)
        if not path.is_file():
            raise InputError(f"{path}: missing; {remedy}")
        if checksum(path) != expected:
            raise InputError(f"{path}: damaged (not as it was written); {remedy}")


def finished_conditions(folder: Path) -> dict | None:
    """conditions.json of a finished run; None where ``folder`` holds none.

    Raises ``InputError`` where a run ended and its conditions.json is missing or damaged.
    """
    path, left = folder / "conditions.json", kept(folder / "checkpoints")
    ended = (folder / "metrics.json").exists() or (folder / "model" / "README.md").exists()
    if not path.exists() and (left or not ended):
        return None
    try:
        conditions = read_json(path, dict, f"{ELSEWHERE}, or delete {folder}")
    except InputError:
        if left or not ended:
            return None  # it is written again at the end
        raise
    # an earlier version wrote it without checksums, and results after it
    return conditions if "files" in conditions or (ended and not left) else None


def kept(checkpoints: Path) -> list[Path]:
    """What an interrupted run left to be resumed from."""
    return [*checkpoints.rglob("checkpoint-*[0-9]"), *checkpoints.rglob("finished")]


def place_of(path: Path) -> str:
    """A checkpoint's or finished stage's place in its run: the stage, and its own name."""
    return "/".join(path.parts[-2:])


def read_seal(path: Path, remedy: str) -> dict:
    """What is sealed at ``path``: ``files`` (name -> SHA-256), its ``run`` and ``place``.

    Raises ``InputError`` with ``remedy`` if that is damaged.
    """
    seal = read_json(path / SEAL, dict, remedy)
    if not {"run", "place", "files"} <= set(seal) or not isinstance(seal["files"], dict):
        raise InputError(f"{path / SEAL}: damaged, or of an earlier version; {remedy}")
    return seal


class _LogFile(logging.FileHandler):
    """``failed`` hears of a line that cannot be written."""

    def __init__(self, path: Path, failed: Callable[[logging.LogRecord], None]):
        super().__init__(path, encoding="utf-8")
        self.failed = failed

    def handleError(self, record: logging.LogRecord) -> None:
        self.failed(record)

    def close(self) -> None:
        with suppress(OSError):  # the same line, which is tried once more
            super().close()


class RunLog(logging.handlers.MemoryHandler):
    """Keeps what is logged until the run is accepted, and writes it to a file from then on."""

    def __init__(self, path: Path):
        super().__init__(sys.maxsize, flushLevel=sys.maxsize, flushOnClose=False)
        self.path = path

    def shouldFlush(self, record: logging.LogRecord) -> bool:
        return self.target is not None

    def open(self) -> None:
        if self.target is None:
            file = _LogFile(self.path, self._cannot_write)
            file.setFormatter(logging.Formatter(FORMAT))
            self.setTarget(file)
            self.flush()

    def _cannot_write(self, record: logging.LogRecord) -> None:
        """A line that a full disk takes off the log does not end the run."""
        if not getattr(self, "said", False):
            self.said = True
            print(f"{self.path}: cannot be written ({_reason(sys.exc_info()[1])})", file=sys.stderr)

    def close(self) -> None:
        if self.target is not None:
            self.target.close()
        super().close()


class RunFolder:
    """The folder ``path`` of one run of ``config``, alone in it: a context.

    What an earlier run left there stays as it is, to the byte, until this run is accepted: at once where
    nothing was left, else by ``begin``. ``overrides`` are the words of the command line and ``choices`` the
    options chosen of its groups, None from Python; ``log`` is the name of its log, if it is to have one. Of
    a job's processes the main one reads and writes.

    Raises ``InputError`` if another run is using it, or one with other settings ended there or was
    interrupted, or if no run was there and a file or folder has a name that runs write.
    """

    def __init__(
        self,
        path: str | Path,
        config: DictConfig,
        overrides: Sequence[str] | None = None,
        choices: Mapping[str, str] | None = None,
        log: str | None = None,
    ):
        self.path, self.config = Path(path), config
        self.overrides, self.choices = overrides, dict(choices or {})
        self.plain = json.loads(json.dumps(plain(config), default=str))  # as it will be read again
        self.settings = fingerprint(self.plain, *precision())
        self.checkpoints = self.path / "checkpoints"
        self.log = RunLog(self.path / f"{log}.log") if log else None
        self.conditions: dict | None = None  # of the finished run that is there
        self.inputs: dict[str, str] = {}  # fingerprints of all that the results depend on
        self.resumed: list[str] = []
        self.accepted = False
        self._lock: FileLock | None = None

    def __enter__(self) -> "RunFolder":
        if not processes.is_main():
            return self
        for name in ("checkpoints", "model", "plots"):
            if (self.path / name).exists() and not (self.path / name).is_dir():
                raise InputError(f"{self.path / name}: a file is where a folder must; move it away")
        if "trainer" in self.plain:  # one that measures leaves a model alone
            self.check_model()
        if not self._ran_here():
            for name in sorted(found.name for pattern in WRITTEN for found in self.path.glob(pattern)):
                raise self._not_own(name)
        self.conditions = finished_conditions(self.path)
        if self.conditions is None:
            self._lock_it()
            self.conditions = finished_conditions(self.path)  # another process may just have finished
        try:
            self._admit()
        except BaseException:
            self._unlock()
            raise
        return self

    def check_model(self) -> None:
        """Raises ``InputError`` for a model that no run wrote which finished here or may be resumed."""
        if (self.path / "model").exists() and not self._begun() and not self._finished():
            raise self._not_own("model")

    def _begun(self) -> bool:
        return (self.checkpoints / "identity.json").exists() or bool(kept(self.checkpoints))

    def _finished(self) -> bool:
        return (self.path / "conditions.json").exists()

    def _ran_here(self) -> bool:
        """Whether a run was accepted here; a run.json may be of another program."""
        try:
            record = json.loads((self.path / "run.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            record = None
        return (isinstance(record, dict) and "settings" in record) or self._begun() or self._finished()

    def _not_own(self, name: str) -> InputError:
        return InputError(
            f"{self.path / name}: is there already, and no run that began here wrote it; {ELSEWHERE}, or "
            "move it away: it would be replaced"
        )

    def _admit(self) -> None:
        if self.log is not None:
            logging.getLogger().addHandler(self.log)
        if self.conditions is not None:
            self._unlock()  # nothing will be written
            if self.conditions.get("settings") != self.settings:
                raise InputError(
                    f"{self.path}: holds a finished run with other settings; {ELSEWHERE}, or delete it"
                )
        elif kept(self.checkpoints):
            self._check(self._identity(), {"settings": self.settings})
        else:
            self._accept()

    def __exit__(self, *error: Any) -> None:
        self._unlock()
        if self.log is not None:
            logging.getLogger().removeHandler(self.log)
            self.log.close()

    def _lock_it(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path / ".lock", blocking=False)
        try:
            self._lock.acquire()
        except Timeout:
            self._lock = None
            raise InputError(f"{self.path}: another run is using it; {ELSEWHERE}") from None
        for draft in self.path.glob(".[0-9]*.*"):  # of ``written``, by a process that was killed
            if re.fullmatch(r"\.\d+\..+", draft.name) and draft.is_file():
                draft.unlink(missing_ok=True)

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _accept(self) -> None:
        """Writes what this run is; from here on the folder is this run's."""
        words = self.path / ".hydra" / "overrides.yaml"  # where Hydra's programs look; nothing here reads it
        own = not words.exists() or words.read_bytes() == self._words_before()
        record = {
            "settings": self.settings,
            "overrides": self.overrides,
            "choices": self.choices,
            "config": self.plain,
        }
        write_json(self.path / "run.json", record)
        write_text(self.path / "config.yaml", OmegaConf.to_yaml(self.config, resolve=True))
        if self.overrides is not None and own:
            words.parent.mkdir(exist_ok=True)
            write_text(words, OmegaConf.to_yaml(list(self.overrides)))
        self.accepted = True
        if self.log is not None:
            self.log.open()

    def _words_before(self) -> bytes:
        """What an earlier run here wrote as ``.hydra/overrides.yaml``, by its run.json; b"" if none did."""
        try:
            record = json.loads((self.path / "run.json").read_bytes())
            return OmegaConf.to_yaml(list(record["overrides"])).encode()
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            return b""

    @property
    def ended(self) -> bool:
        """Whether a run has finished here."""
        return processes.broadcast(self.conditions is not None)

    def finished(self, **inputs: str) -> bool:
        """Whether the same run has finished here, from the same ``inputs`` (fingerprints), its results whole.

        Raises ``InputError`` naming what has changed since, or the file that is damaged.
        """
        if not self.ended:
            return False
        if processes.is_main():
            conditions = self.conditions or {}
            known = {name: conditions.get(name, value) for name, value in inputs.items()}
            changed = [name for name, value in inputs.items() if known[name] != value]
            if changed:
                raise InputError(
                    f"{self.path}: finished with another {' and another '.join(changed)} (changed since, in "
                    f"place): its results are not of what is there now; {ELSEWHERE}, or delete it"
                )
            remedy = f"delete {self.path} to run it again"
            files = files_of(conditions, self.path)
            if not (self.path / "model").exists():  # removed whole, to make room
                files = {name: files[name] for name in RESULTS if name in files}
            check(self.path, files, remedy)
            with suppress(OSError):  # if it was killed before it could; the folder may be read-only now
                self.clear()
            log.info("finished earlier, nothing to do; to run it again delete %s", self.path)
        return True

    def begin(self, **inputs: str) -> str:
        """Accepts the run, which trains from here on, of these ``inputs`` (fingerprints); gives its identity.

        Raises ``InputError`` if what is kept there to be resumed from was begun with others, is another
        run's, or not in its place.
        """
        inputs = {"settings": self.settings, **inputs}
        identity = fingerprint(inputs)
        if not processes.is_main():
            return identity
        if stages := kept(self.checkpoints):
            begun = self._identity()
            self._check(begun, inputs)
            self._check_places(stages, identity)
            self.resumed = [str(where) for where in begun.get("resumed", [])]
        self._accept()
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.inputs = inputs
        write_json(self.checkpoints / "identity.json", {**inputs, "resumed": self.resumed})
        return identity

    def note_resumed(self, where: str) -> None:
        """Notes that the run is resumed from ``where``: its results will say so."""
        if processes.is_main():
            self.resumed.append(where)
            write_json(self.checkpoints / "identity.json", {**self.inputs, "resumed": self.resumed})

    def _identity(self) -> dict:
        remedy = f"delete {self.checkpoints} to begin again, or {ELSEWHERE}"
        if not (self.checkpoints / "identity.json").exists():
            raise InputError(f"{self.checkpoints}: does not say what it was begun with; {remedy}")
        return read_json(self.checkpoints / "identity.json", dict, remedy)

    def _check(self, begun: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
        changed = [name for name, value in inputs.items() if begun.get(name) != value]
        if "settings" in changed:
            changed = ["other settings"]
        elif changed:
            changed = [f"another {name} (changed since, in place)" for name in changed]
        if changed:
            raise InputError(
                f"{self.checkpoints}: begun with {' and '.join(changed)}; {ELSEWHERE}, or delete it to "
                "begin again"
            )

    def _check_places(self, found: Iterable[Path], identity: str) -> None:
        """What was moved or copied here would be resumed to another result."""
        for path in found:
            if not (path / SEAL).exists():
                continue  # cut off while it was written, and not used
            remedy = f"delete {path} to resume from what was before it"
            seal = read_seal(path, remedy)
            if (seal["run"], seal["place"]) != (identity, place_of(path)):
                whose = "" if seal["run"] == identity else " of another run"
                raise InputError(
                    f"{path}: is {seal['place']}{whose} by its {SEAL}, moved or copied here; {remedy}"
                )

    @contextmanager
    def drafted(self, name: str) -> Iterator[Path]:
        """A folder that takes the place of ``name`` once it is filled."""
        draft = self.path / f".{name}"
        shutil.rmtree(draft, ignore_errors=True)
        with naming(self.path / name):
            yield draft
            share(draft)
            shutil.rmtree(self.path / name, ignore_errors=True)
            draft.rename(self.path / name)

    def clear(self) -> None:
        """Removes what was kept to be resumed from, now that all is done; what trackers wrote there stays."""
        for path in kept(self.checkpoints):
            shutil.rmtree(path)
        (self.checkpoints / "identity.json").unlink(
            missing_ok=True
        )  # last: until then it says whose the rest is
        if self.checkpoints.is_dir():
            folders = [path for path in self.checkpoints.iterdir() if path.is_dir()]
            for emptied in [*folders, self.checkpoints]:
                if not any(emptied.iterdir()):
                    emptied.rmdir()


def results_of(folder: Path) -> list[str]:
    """The files of ``folder`` whose checksums its conditions.json holds: results, runs, and the model's.

    Not the model's card, which is there to be edited.
    """
    others = ("history.json", "run.trec.gz", "qrels.trec")
    model = sorted(path.relative_to(folder).as_posix() for path in (folder / "model").rglob("*"))
    names = [*RESULTS, *others, *(name for name in model if name != "model/README.md")]
    return [name for name in names if (folder / name).is_file()]


def files_of(conditions: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The checksums in ``conditions``, name -> SHA-256; none in those of an earlier version."""
    files = conditions.get("files", {})
    if not isinstance(files, dict):
        raise InputError(f"{folder / 'conditions.json'}: damaged (files); delete {folder} to run it again")
    return files
