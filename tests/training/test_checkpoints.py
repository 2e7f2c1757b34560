import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.training.checkpoints import begin, check_weights, clear, last_checkpoint


def checkpoint(folder, step, state='{"global_step": 1}'):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    if state is not None:
        (path / "trainer_state.json").write_text(state)
    return str(path)


def test_the_latest_checkpoint_that_is_complete_is_taken(tmp_path):
    """A kill while saving must not block resuming from the one before."""
    assert last_checkpoint(tmp_path / "missing") is None
    good = checkpoint(tmp_path, 9)
    checkpoint(tmp_path, 10, state=None)
    checkpoint(tmp_path, 11, state='{"global_st')
    checkpoint(tmp_path, 8)
    assert last_checkpoint(tmp_path) == good


def test_going_on_with_other_settings_is_refused(tmp_path):
    """It would mix two runs in one folder."""
    begin(tmp_path / "checkpoints", "a")
    checkpoint(tmp_path / "checkpoints" / "warmup", 3)
    with pytest.raises(InputError, match="begun with other settings; give another hydra.run.dir"):
        begin(tmp_path / "checkpoints", "b")


def test_settings_may_change_while_nothing_is_kept(tmp_path):
    """A run that failed at its first step is mended and started again in the same folder."""
    begin(tmp_path / "checkpoints", "a")
    begin(tmp_path / "checkpoints", "b")
    (tmp_path / "checkpoints" / "settings.json").write_text("{")
    begin(tmp_path / "checkpoints", "c")
    checkpoint(tmp_path / "checkpoints" / "warmup", 3)
    begin(tmp_path / "checkpoints", "c")


def test_weights_that_are_not_finite_are_an_error():
    model = torch.nn.Linear(2, 2)
    check_weights(model)
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match="diverged: 'weight' not finite; lower trainer.learning_rate"):
        check_weights(model)


def test_clear_leaves_what_trackers_wrote(tmp_path):
    begin(tmp_path / "checkpoints", "a")
    (tmp_path / "checkpoints" / "warmup" / "finished").mkdir(parents=True)
    checkpoint(tmp_path / "checkpoints" / "distillation", 3)
    (tmp_path / "checkpoints" / "distillation" / "runs").mkdir()
    (tmp_path / "checkpoints" / "distillation" / "runs" / "events").write_text("")
    clear(tmp_path / "checkpoints")
    left = sorted(path.name for path in (tmp_path / "checkpoints").rglob("*"))
    assert left == ["distillation", "events", "runs"]
