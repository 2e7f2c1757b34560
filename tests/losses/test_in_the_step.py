"""Each loss of ``configs/loss`` as a step has it: what it reads is there, and a gradient comes back."""

import pytest
import torch
from hydra import compose, initialize_config_dir

from rankdistill.commands.launch import config_folder, make
from rankdistill.samplers import RandomSampler
from rankdistill.students import load_student
from rankdistill.training import DistillationTrainer, StepTeacher, training_arguments

FOLDER = config_folder() / "loss"
# without those that need a table of preferences, a sparse student, or one of token vectors
OTHERS = {"pairwise", "pairdistill", "kl_infonce_flops", "token_alignment"}
NAMES = sorted({f.stem for f in FOLDER.glob("*.yaml")} - OTHERS)


@pytest.mark.parametrize("grad_cache", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_reaches_student_and_loss(name, grad_cache, table, student_folder, tmp_path):
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        loss = make(compose("config", overrides=[f"loss={name}"]).loss)
    trainer = DistillationTrainer(
        load_student(student_folder),
        table,
        RandomSampler(1, 3),
        loss,
        training_arguments(str(tmp_path), bf16=False, disable_tqdm=True, per_device_train_batch_size=4),
        step_teacher=StepTeacher(load_student(student_folder, layers=None if name == "tinybert" else 1)),
        grad_cache=grad_cache,
    )
    trainer.model.train()
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    value = trainer.compute_loss(trainer.model, batch)
    value.backward()
    assert value.shape == () and value.isfinite()
    gradients = [weight.grad for weight in trainer.student.parameters() if weight.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert torch.stack([gradient.abs().max() for gradient in gradients]).max() > 0
    assert all(weight.grad is not None for weight in loss.parameters())
