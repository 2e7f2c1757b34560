"""A loss with parameters and state of its own: trained, clipped, saved and resumed with the student."""

import copy
import json
import logging
import math
import shutil
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rankdistill.errors import InputError
from rankdistill.losses import InfoNCE, KLDivergence, WeightedSum
from rankdistill.samplers import HardNegativeSampler, RandomSampler
from rankdistill.students import fingerprint_of, load_student
from rankdistill.training import DistillationTrainer, training_arguments
from rankdistill.training.checkpoints import finish


class Tempered(nn.Module):
    """KL at a temperature that is learnt, and that counts its calls while training."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(0.5))
        self.calls = 0

    def forward(self, student, teacher, positive, mask):
        self.calls += 1
        return KLDivergence()(student * self.log_scale.exp(), teacher, positive, mask)


def composed():
    return WeightedSum({"kl": Tempered(), "nce": InfoNCE(in_batch=True)}, {"kl": 1.0, "nce": 0.5})


LOSSES = {"alone": (Tempered, "log_scale"), "composed": (composed, "losses.kl.log_scale")}
either = pytest.mark.parametrize(("loss", "name"), LOSSES.values(), ids=LOSSES)


def trainer_of(student_folder, table, folder, loss, **fields):
    defaults = {"per_device_train_batch_size": 4, "learning_rate": 1e-2, "bf16": False, "disable_tqdm": True}
    arguments = training_arguments(str(folder), **(defaults | fields))
    return DistillationTrainer(load_student(student_folder), table, RandomSampler(1, 3), loss, arguments)


@either
def test_a_step_moves_and_clips_them_with_the_student_s(student_folder, table, tmp_path, loss, name):
    """One step of SGD, worked out from the gradients of the first batch."""
    fields = {"optim": "sgd", "max_steps": 1, "warmup_steps": 0, "max_grad_norm": 0.01, "weight_decay": 0.1}
    trainer = trainer_of(student_folder, table, tmp_path, loss(), logging_steps=1, **fields)
    other = trainer_of(student_folder, table, tmp_path, loss(), **fields)
    other._match_scales()
    batch = other.data_collator([other.train_dataset[i] for i in list(other._order)[:4]])
    other.compute_loss(other.model.train(), batch).backward()
    gradients = [weight.grad for weight in other.model.parameters() if weight.grad is not None]
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
    own = other.loss.get_parameter(name).grad.item()
    assert norm > 0.01 and abs(own) > 1e-3
    trainer.train()
    expected = 0.5 - 1e-2 * own * 0.01 / norm  # without decay
    assert trainer.loss.get_parameter(name).item() == pytest.approx(expected, abs=1e-7)
    first = trainer.state.log_history[0]
    assert first[f"loss.{name}"] == trainer.loss.get_parameter(name).item()
    assert first["grad_norm"] == pytest.approx(norm, rel=1e-4)


@either
def test_they_are_resumed_and_kept_with_a_finished_stage(student_folder, table, tmp_path, loss, name):
    fields = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "logging_steps": 2}
    whole = trainer_of(student_folder, table, tmp_path / "whole", loss(), **fields)
    whole.train()
    (tmp_path / "parts").mkdir()
    shutil.copytree(tmp_path / "whole" / "checkpoint-3", tmp_path / "parts" / "checkpoint-3")
    resumed = trainer_of(student_folder, table, tmp_path / "parts", loss(), **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-3"))
    assert abs(whole.loss.get_parameter(name).item() - 0.5) > 1e-3
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
    finish(resumed, resumed.state.log_history, tmp_path / "parts" / "finished", "run")
    kept = load_file(tmp_path / "parts" / "finished" / "model.safetensors")
    assert kept[f"loss.{name}"] == whole.loss.get_parameter(name)
    history = json.loads((tmp_path / "parts" / "finished" / "history.json").read_text())
    assert any(f"loss.{name}" in row for row in history)


def test_a_checkpoint_without_them_is_refused(student_folder, table, tmp_path):
    """And one of a loss that has none is read as ever."""
    fields = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    trainer_of(student_folder, table, tmp_path, KLDivergence(), **fields).train()
    checkpoint = tmp_path / "checkpoint-2"
    stored = load_file(checkpoint / "model.safetensors")
    assert {key.split(".")[0] for key in stored} == {"student", "teacher_factor"}
    trainer_of(student_folder, table, tmp_path, KLDivergence(), **fields).train(str(checkpoint))
    with pytest.raises(
        InputError, match=r"another model or loss \('loss.log_scale'\); delete .*checkpoint-2"
    ):
        trainer_of(student_folder, table, tmp_path, Tempered(), **fields).train(str(checkpoint))
    save_file(stored | {"student.more": torch.zeros(1)}, checkpoint / "model.safetensors")
    with pytest.raises(InputError, match="another model or loss"):
        trainer_of(student_folder, table, tmp_path, KLDivergence(), **fields).train(str(checkpoint))


def test_the_loss_is_called_once_a_batch(student_folder, table, tmp_path):
    """And not to see whether it moves the student, which a copy does; one that has none is not tried."""
    trainer = trainer_of(
        student_folder, table, tmp_path, Tempered(), max_steps=2, per_device_train_batch_size=2
    )
    trainer.train()
    assert trainer.loss.calls == 2
    loss = Tempered()
    loss.lock = threading.Lock()
    with pytest.raises(TypeError):
        copy.deepcopy(loss)
    trainer_of(student_folder, table, tmp_path, loss, max_steps=2).train()
    assert loss.calls == 2


def test_a_loss_that_follows_nothing_is_named(student_folder, table, tmp_path):
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

        def forward(self, student, teacher, positive, mask):
            return torch.tensor(1.0)

    with pytest.raises(InputError, match="Constant: its value has no gradient"):
        trainer_of(student_folder, table, tmp_path, Constant(), max_steps=1).train()


def test_building_a_trainer_changes_neither_student_nor_arguments(student_folder, table, tmp_path):
    student = load_student(student_folder)
    student.similarity_fn_name = "dot"
    arguments = training_arguments(str(tmp_path), bf16=False)
    arguments._n_gpu = 2
    before = fingerprint_of(student), student.transformers_model.config.to_dict(), student.training
    attention, hooks = student.transformers_model.config._attn_implementation, len(student[0]._forward_hooks)
    settings = arguments.to_dict() | {"n_gpu": arguments.n_gpu}
    DistillationTrainer(student, table, RandomSampler(1, 3), KLDivergence(), arguments)
    assert (fingerprint_of(student), student.transformers_model.config.to_dict(), student.training) == before
    assert student.transformers_model.config._attn_implementation == attention
    assert len(student[0]._forward_hooks) == hooks and student.similarity_fn_name == "dot"
    assert arguments.to_dict() | {"n_gpu": arguments.n_gpu} == settings


@pytest.mark.parametrize(("temperature", "warned"), [(1.0, False), (1e-4, True)])
def test_a_teacher_that_says_no_more_than_a_label_is_warned_of(
    student_folder, table, tmp_path, caplog, temperature, warned
):
    """The share of groups, from the softmax of the groups themselves."""
    loss = WeightedSum({"kl": KLDivergence(teacher_temperature=temperature)}, {"kl": 1.0})
    trainer = trainer_of(student_folder, table, tmp_path, loss, max_steps=1)
    with caplog.at_level(logging.WARNING, logger="rankdistill"):
        trainer.train()
    factor, shares = trainer.model.teacher_factor.item(), []
    for i in range(len(trainer.train_dataset)):
        scores = trainer.train_dataset[i].teacher.astype(float) * factor / temperature
        shares.append(np.exp(scores - np.logaddexp.reduce(scores)).max() > 0.99)
    assert (np.mean(shares) >= 0.5) == warned
    message = f"KLDivergence: at teacher_temperature={temperature:g} one document has more than 0.99 of the"
    assert (message in caplog.text) == warned
    assert not warned or f"in {100 * np.mean(shares):.0f} % of the groups" in caplog.text


def test_groups_of_one_document_say_nothing_of_a_temperature(student_folder, table, tmp_path, caplog):
    """A margin of the sampler that leaves no negative: no temperature changes that, and it is said."""
    sampler = HardNegativeSampler(1, 3, absolute_margin=1e6)
    trainer = DistillationTrainer(
        load_student(student_folder, max_length=16),
        table,
        sampler,
        KLDivergence(teacher_temperature=1000.0),
        training_arguments(str(tmp_path), max_steps=1, bf16=False, disable_tqdm=True),
    )
    with pytest.raises(InputError, match="of 16 groups only 0 move the student's scores; 16 show one"):
        trainer.train()
    assert "then says no more than a label" not in caplog.text
