"""Stages that survive an interruption: which checkpoint to go on from, and whether it fits."""

import json
import shutil
from pathlib import Path

from rankdistill.errors import InputError


def last_checkpoint(folder: Path) -> str | None:
    """The latest complete checkpoint in ``folder``, or None: one that was cut off has no readable state."""

    def complete(checkpoint: Path) -> bool:
        try:
            return "global_step" in json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            return False

    found = [path for path in folder.glob("checkpoint-*") if complete(path)]
    return str(max(found, key=lambda path: int(path.name.rpartition("-")[2]))) if found else None


def begin(folder: Path, settings: str) -> None:
    """Marks ``folder`` as begun with ``settings`` (a fingerprint).

    Raises ``InputError`` if it was begun with others: going on would mix the two.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "settings.json"
    if not mark.exists():
        mark.write_text(json.dumps(settings))
    elif json.loads(mark.read_text()) != settings:
        raise InputError(
            f"{folder}: begun with other settings; give another hydra.run.dir, or delete it to start anew"
        )


def finish(trainer, logged: list, finished: Path) -> None:
    """Leaves weights and history in ``finished``, all of it or nothing, and drops the checkpoints."""
    draft = finished.with_name("unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    trainer.save_model(str(draft))
    (draft / "history.json").write_text(json.dumps(logged))
    draft.rename(finished)
    for checkpoint in finished.parent.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def clear(folder: Path) -> None:
    """Removes what was kept to go on from, now that all is done; what trackers wrote there stays."""
    (folder / "settings.json").unlink(missing_ok=True)
    for kept in [*folder.rglob("checkpoint-*"), *folder.rglob("finished")]:
        shutil.rmtree(kept)
    for emptied in [*(path for path in folder.iterdir() if path.is_dir()), folder]:
        if not any(emptied.iterdir()):
            emptied.rmdir()
