"""Stages that survive an interruption: which checkpoint to resume from, and whether it is whole."""

import logging
import pickle
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import TrainerCallback
from transformers.trainer_utils import rotate_checkpoints

from rankdistill.errors import InputError, shorten
from rankdistill.runtime import processes
from rankdistill.runtime.cache import share
from rankdistill.runtime.folders import SEAL, check, checksum, naming, place_of, read_seal, write_json
from rankdistill.students.models import Model

log = logging.getLogger(__name__)
RESUME_BEFORE = "delete {} to resume from what was before it"


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint in ``folder`` that was written to its end, or None."""
    whole = [path for path in folder.glob("checkpoint-*[0-9]") if (path / SEAL).exists()]
    return max(whole, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _drop_cut_off(folder: Path) -> None:
    """Removes what was killed while it was written: by its step it would pass for the latest."""
    for path in folder.glob("checkpoint-*[0-9]"):
        if path.is_dir() and not (path / SEAL).exists():
            log.info("%s: cut off while it was written, and not used", path)
            shutil.rmtree(path)


def seal(folder: Path, run: str, becomes: Path | None = None) -> None:
    """Writes the checksums of the files in ``folder``, which are all there, and lets others read them.

    And whose they are: ``run`` is the run's identity; ``becomes`` is the folder's path from then on.
    """
    share(folder)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    checksums = {name: checksum(folder / name) for name in files if name != SEAL}
    write_json(folder / SEAL, {"run": run, "place": place_of(becomes or folder), "files": checksums})


def check_sealed(folder: Path, remedy: str) -> None:
    """Raises ``InputError`` with ``remedy`` for a file of ``folder`` that is not as it was sealed."""
    check(folder, read_seal(folder, remedy)["files"], remedy)


class _Seal(TrainerCallback):
    """Seals each checkpoint, and only then drops those that ``limit`` leaves no room for.

    The latest are those of the highest steps: the Trainer itself goes by modification times, and clocks jump.
    """

    def __init__(self, limit: int | None, run: str):
        self.limit, self.run = limit, run

    def on_save(self, args, state, control, **kwargs):
        processes.wait()  # each process writes a file of its own
        if processes.is_main():
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.run)
            rotate_checkpoints(args.output_dir, self.limit, state.best_model_checkpoint)


def resume(trainer, folder: Path, run: str) -> None:
    """Trains, from the last checkpoint in ``folder`` where there is one; ``run`` is the run's identity.

    Raises ``InputError`` if that is damaged or training diverges.
    """
    checkpoint = last_checkpoint(folder)
    processes.wait()
    if processes.is_main():
        _drop_cut_off(folder)
    if checkpoint is not None:
        log.info("going on from %s", checkpoint)
        check_sealed(checkpoint, RESUME_BEFORE.format(checkpoint))
    trainer.add_callback(_Seal(trainer.args.save_total_limit, run))
    trainer.args.save_total_limit = None
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except (SafetensorError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        if (
            checkpoint is None
            or isinstance(error, InputError)
            or trainer.state.global_step > step_of(checkpoint)
        ):
            raise
        reason = " ".join(str(error).split("\n")[0].split())
        raise InputError(
            f"{checkpoint}: cannot be resumed ({reason}); delete it to resume from what was before it"
        ) from None
    check_weights(trainer.model)


def check_weights(model: torch.nn.Module) -> None:
    """Raises ``InputError`` if a weight of ``model`` isn't finite: training has diverged."""
    bad = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if bad:
        raise InputError(
            f"training diverged: {shorten(bad, 1)} not finite; lower trainer.learning_rate "
            "and give another hydra.run.dir"
        )


def finish(trainer, logged: list, finished: Path, run: str) -> None:
    """Leaves weights and history in ``finished``, all of it or nothing, and drops the checkpoints.

    The main process does, while the others wait.
    """
    draft = finished.with_name("unfinished")
    with naming(draft):
        trainer.save_model(str(draft))
        if processes.is_main():
            if trainer.model.trains_teacher and isinstance(trainer.model.teacher.model, Model):
                trainer.model.teacher.model.save_pretrained(str(draft / "teacher"), create_model_card=False)
            _complete(draft, logged, finished, run)
    processes.wait()


def _complete(draft: Path, logged: list, finished: Path, run: str) -> None:
    write_json(draft / "history.json", logged)
    seal(draft, run, finished)
    draft.rename(finished)
    for checkpoint in finished.parent.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    for table in finished.parent.glob("round-*"):
        table.unlink()
