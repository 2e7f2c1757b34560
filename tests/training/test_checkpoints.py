import json
import os
from pathlib import Path

import pytest
import torch
from transformers import TrainerControl, TrainerState

from rankdistill.errors import InputError
from rankdistill.training import training_arguments
from rankdistill.training.checkpoints import (
    _Seal,
    check_sealed,
    check_weights,
    last_checkpoint,
    resume,
    seal,
)


def checkpoint(folder, step, sealed=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"):
        (path / name).write_text(f"{name} of {step}")
    if sealed:
        seal(path, "run")
    return path


def test_the_latest_checkpoint_that_is_complete_is_taken(tmp_path):
    """A kill while saving must not block resuming from the one before."""
    assert last_checkpoint(tmp_path / "missing") is None
    good = checkpoint(tmp_path, 9)
    checkpoint(tmp_path, 10, sealed=False)
    checkpoint(tmp_path, 8)
    assert last_checkpoint(tmp_path) == good


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "model.safetensors", "checksums.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "zeros", "list"])
def test_a_checkpoint_is_whole_or_named(tmp_path, name, damage):
    path = checkpoint(tmp_path, 4)
    check_sealed(path, "delete it")
    file = path / name
    if damage == "gone":
        file.unlink()
    else:
        whole = file.read_bytes()
        file.write_bytes({"cut": whole[:-3], "zeros": bytes(len(whole)), "list": b"[]"}[damage])
    with pytest.raises(InputError, match=rf"checkpoint-4.{name}: .*; delete it"):
        check_sealed(path, "delete it")


class Trains:
    """What ``resume`` needs of a Trainer; saves checkpoints of ``steps`` as the Trainer does."""

    def __init__(self, folder, steps, limit):
        self.args = training_arguments(str(folder), save_total_limit=limit)
        self.state, self.model = TrainerState(), torch.nn.Linear(1, 1)
        self.steps, self.callbacks, self.resumed = steps, [], None

    def add_callback(self, callback):
        self.callbacks.append(callback)

    def train(self, resume_from_checkpoint):
        self.resumed = resume_from_checkpoint
        assert self.args.save_total_limit is None, "the Trainer would delete by the clock, before the seal"
        for step in self.steps:
            self.state.global_step = step
            path = checkpoint(Path(self.args.output_dir), step, sealed=False)
            os.utime(path, (1e9 - step,) * 2)  # the clock jumps back at every step
            for callback in self.callbacks:
                callback.on_save(self.args, self.state, TrainerControl())


def test_the_checkpoints_that_are_kept_are_those_of_the_latest_steps_whatever_the_clock_says(tmp_path):
    trainer = Trains(tmp_path, [2, 4, 6], limit=1)
    resume(trainer, tmp_path, "run")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-6"]
    check_sealed(tmp_path / "checkpoint-6", "")


def test_what_was_cut_off_is_not_used_and_does_not_pass_for_the_latest(tmp_path):
    checkpoint(tmp_path, 2)
    checkpoint(tmp_path, 9, sealed=False)
    trainer = Trains(tmp_path, [4], limit=1)
    resume(trainer, tmp_path, "run")
    assert trainer.resumed == str(tmp_path / "checkpoint-2")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path):
    """The older one goes only when the newer one is sealed."""
    checkpoint(tmp_path, 2)
    checkpoint(tmp_path, 4, sealed=False)
    assert last_checkpoint(tmp_path).name == "checkpoint-2"
    callback, state = _Seal(1, "run"), TrainerState(global_step=4)
    callback.on_save(training_arguments(str(tmp_path)), state, TrainerControl())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]
    sealed = json.loads((tmp_path / "checkpoint-4" / "checksums.json").read_text())
    assert sealed["place"] == f"{tmp_path.name}/checkpoint-4" and "optimizer.pt" in sealed["files"]


def test_weights_that_are_not_finite_are_an_error():
    model = torch.nn.Linear(2, 2)
    check_weights(model)
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match="diverged: 'weight' not finite; lower trainer.learning_rate"):
        check_weights(model)
