"""Stages that survive an interruption: which checkpoint to go on from, and whether it fits."""

import json
import logging
import pickle
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError

from rankdistill import processes
from rankdistill.errors import InputError, shorten

log = logging.getLogger(__name__)


def last_checkpoint(folder: Path) -> str | None:
    """The latest complete checkpoint in ``folder``, or None: one that was cut off has no readable state."""

    def complete(checkpoint: Path) -> bool:
        try:
            return "global_step" in json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            return False

    found = [path for path in folder.glob("checkpoint-*[0-9]") if complete(path)]
    return str(max(found, key=_step)) if found else None


def _step(checkpoint: str | Path) -> int:
    return int(str(checkpoint).rpartition("-")[2])


def finished(folder: Path, mark: str, settings: str) -> bool:
    """Whether ``folder`` holds a finished run, its file ``mark`` being the last that a run writes.

    Raises ``InputError`` if that was a run of other ``settings`` (a fingerprint, kept in
    conditions.json): it is not overwritten.
    """
    if not (folder / mark).exists():
        return False
    conditions = folder / "conditions.json"
    if not conditions.exists() or json.loads(conditions.read_text()).get("settings") != settings:
        raise InputError(
            f"{folder}: holds a finished run of other settings; give another hydra.run.dir "
            "(hydra.sweep.dir in a sweep), or delete it"
        )
    log.info("finished earlier, nothing to do; to run anew delete %s", folder)
    return True


def begin(folder: Path, settings: str) -> None:
    """Marks ``folder`` as begun with ``settings`` (a fingerprint).

    Raises ``InputError`` if what is kept there was begun with others: going on would mix the two.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "settings.json"
    try:
        begun = json.loads(mark.read_text())
    except (OSError, ValueError):
        begun = None
    if begun != settings and _kept(folder):
        raise InputError(
            f"{folder}: begun with other settings; give another hydra.run.dir, or delete it to start anew"
        )
    draft = folder / ".settings.json"
    draft.write_text(json.dumps(settings))
    draft.replace(mark)


def resume(trainer, folder: Path) -> None:
    """Trains, from the last checkpoint in ``folder`` where there is one.

    Raises ``InputError`` if that is damaged or training diverges.
    """
    checkpoint = last_checkpoint(folder)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except (SafetensorError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        if (
            checkpoint is None
            or isinstance(error, InputError)
            or trainer.state.global_step > _step(checkpoint)
        ):
            raise
        raise InputError(f"{checkpoint}: damaged ({error}); delete it to go on from an earlier one") from None
    check_weights(trainer.model)


def check_weights(model: torch.nn.Module) -> None:
    """Raises ``InputError`` if a weight of ``model`` isn't finite: training has diverged."""
    bad = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if bad:
        raise InputError(
            f"training diverged: {shorten(bad, 1)} not finite; lower trainer.learning_rate "
            "and give another hydra.run.dir"
        )


def finish(trainer, logged: list, finished: Path) -> None:
    """Leaves weights and history in ``finished``, all of it or nothing, and drops the checkpoints.

    The main process does, while the others wait.
    """
    draft = finished.with_name("unfinished")
    trainer.save_model(str(draft))
    if processes.is_main():
        _complete(draft, logged, finished)
    processes.wait()


def _complete(draft: Path, logged: list, finished: Path) -> None:
    (draft / "history.json").write_text(json.dumps(logged))
    draft.rename(finished)
    for checkpoint in finished.parent.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def clear(folder: Path) -> None:
    """Removes what was kept to go on from, now that all is done; what trackers wrote there stays."""
    for kept in _kept(folder):
        shutil.rmtree(kept)
    (folder / "settings.json").unlink(missing_ok=True)  # last: until then it says whose the rest is
    for emptied in [*(path for path in folder.iterdir() if path.is_dir()), folder]:
        if not any(emptied.iterdir()):
            emptied.rmdir()


def _kept(folder: Path) -> list[Path]:
    """What an interrupted run left to go on from."""
    return [*folder.rglob("checkpoint-*[0-9]"), *folder.rglob("finished")]
