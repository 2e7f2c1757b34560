"""Two processes on half a batch each take the step that one takes on the whole batch."""

import os

import pytest
import torch
from commands import child, two_processes
from safetensors.torch import load_file

from rankdistill.students import adapter_student, asymmetric_student, load_student, static_student

PROGRAM = """
import dataclasses, sys
import numpy as np
import torch
from rankdistill.runtime import processes
from rankdistill.candidates import BM25, Random, mine
from rankdistill.data import read_beir
from rankdistill.scores.preferences import Pairs
from rankdistill.losses import (
    FLOPS, InfoNCE, Joint, KLDivergence, Layerwise, PairwisePreference, WeightedSum,
)
from rankdistill.samplers import RandomSampler
from rankdistill.students import (
    adapter_student, asymmetric_student, late_interaction_student, load_cross_encoder, load_student,
    sparse_student, static_student,
)
from rankdistill.teachers import score_candidates
from rankdistill.training import (
    ClusteredOrder, DistillationTrainer, Refresh, StepTeacher, training_arguments,
)

class Teacher:
    fingerprint = "length"
    def score(self, queries, documents):
        return [len(d) / 10 for d in documents]

class Tempered(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.zeros(()))
        self.kl = KLDivergence()
    def forward(self, student, teacher, positive, mask):
        return self.kl(student * self.log_scale.exp(), teacher, positive, mask)

folder, student, batch, out = sys.argv[1:]
processes.join()
losses = {
    "kl": KLDivergence(),
    "infonce": InfoNCE(in_batch=True),
    "both": WeightedSum({"a": KLDivergence(), "b": InfoNCE(in_batch=True, false_negative_margin=0.5)},
                        {"a": 1.0, "b": 1.0}),
    "learnt": WeightedSum({"a": Tempered(), "b": InfoNCE(in_batch=True)}, {"a": 1.0, "b": 1.0}),
    "asymmetric": InfoNCE(in_batch=True),
    "adapter": InfoNCE(in_batch=True),
    "matryoshka": InfoNCE(in_batch=True),
    "sparse": InfoNCE(in_batch=True),
    "late_interaction": InfoNCE(in_batch=True),
    "cross_encoder": KLDivergence(),
    "flops": WeightedSum({"a": KLDivergence(), "b": FLOPS(1.0, 1.0, 0)}, {"a": 1.0, "b": 1.0}),
    "layerwise": Layerwise(temperature=0.1),
    "joint": Joint(),
    "pairwise": PairwisePreference(),
    "refresh": InfoNCE(in_batch=True),
    "clusters": InfoNCE(in_batch=True),
}
torch.manual_seed(0)  # of a new scoring head
students = {
    "asymmetric": lambda: asymmetric_student(static_student(student, 8, "input"), load_student(student)),
    "adapter": lambda: adapter_student(student),
    "matryoshka": lambda: load_student(student, dimensions=[8, 4], device="cpu"),
    "sparse": lambda: sparse_student(student),
    "late_interaction": lambda: late_interaction_student(student, 8),
    "cross_encoder": lambda: load_cross_encoder(student, device="cpu"),
    "flops": lambda: sparse_student(student),
}
def another():
    model = load_student(student, device="cpu")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    return model

more = {
    "layerwise": lambda: {"step_teacher": StepTeacher(another())},
    "joint": lambda: {"step_teacher": StepTeacher(load_cross_encoder(student, device="cpu"), True)},
    "refresh": lambda: {"refresh": Refresh(steps=1, n=5, teacher=Teacher())},
    "clusters": lambda: {"order": ClusteredOrder(load_student(student, device="cpu"), 4)},
}
torch.set_num_threads(1)
table = score_candidates(Teacher(), mine(read_beir(folder), [BM25(10), Random(10)], "train"))
sizes = np.diff(table.candidates.offsets)  # each candidate is compared with the next
pairs = Pairs(np.append(0, (sizes - 1).cumsum()), *(
    np.concatenate([np.arange(size - 1) + i for size in sizes]).astype(np.int32) for i in (0, 1)
), np.linspace(0, 1, (sizes - 1).sum(), dtype=np.float32))
table = dataclasses.replace(table, pairs=pairs)
for name, loss in losses.items():
    arguments = training_arguments(
        f"{out}/{name}", per_device_train_batch_size=int(batch), max_steps=1 + (name == "refresh"),
        bf16=False, use_cpu=True,
        learning_rate={"cross_encoder": 10.0, "layerwise": 1.0}.get(name, 1e-3),  # their scores hardly differ
        optim="sgd", max_grad_norm=0, disable_tqdm=True, warmup_steps=0,
    )
    made = students.get(name, lambda: load_student(student, device="cpu"))()
    trainer = DistillationTrainer(made, table, RandomSampler(1, 19 if name == "pairwise" else 3), loss,
                                  arguments, teacher_scale=1.0, grad_cache=name == "both",
                                  **more.get(name, dict)())
    trainer.train()
    if trainer.is_world_process_zero():
        trainer.save_model(arguments.output_dir)
    processes.wait()
processes.leave()
"""


@pytest.fixture(scope="module")
def stepped(beir, student_folder, tmp_path_factory):
    """The folders of one process and of two, with the model that each loss has left."""
    folder = tmp_path_factory.mktemp("stepped")
    (folder / "program.py").write_text(PROGRAM)
    words = [str(folder / "program.py"), str(beir), student_folder]
    for launch, out, batch in ((child, folder / "one", 8), (two_processes, folder / "two", 4)):
        done = launch([*words, str(batch), str(out)], folder, CUDA_VISIBLE_DEVICES="")
        assert done.returncode == 0, done.stderr[-3000:]
    return folder / "one", folder / "two"


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["kl", "infonce", "both", "learnt"])
def test_two_gloo_processes_take_the_step_of_one(stepped, student_folder, loss):
    """In-batch negatives are gathered, with their gradient; a document that both have counts once."""
    one, two = (load_file(folder / loss / "model.safetensors") for folder in stepped)
    start = load_file(os.path.join(student_folder, "model.safetensors"))
    moved = max(
        (one["student.model.0.model." + name] - value).abs().max().item()
        for name, value in start.items()
        if "student.model.0.model." + name in one
    )
    assert moved > 1e-6
    assert ("loss.losses.a.log_scale" in one) == (loss == "learnt")
    assert loss != "learnt" or one["loss.losses.a.log_scale"] != 0
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=1e-6, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "start"),
    [
        (
            "asymmetric",
            lambda folder: asymmetric_student(static_student(folder, 8, "input"), load_student(folder)),
        ),
        ("adapter", adapter_student),
    ],
)
def test_of_a_frozen_encoder_both_take_rows(stepped, student_folder, name, start):
    """Which they have embedded together; what is trained takes the step of one process."""
    one, two = (load_file(folder / name / "model.safetensors") for folder in stepped)
    student = start(student_folder)
    trained = {f"student.model.{x}" for x, weight in student.named_parameters() if weight.requires_grad}
    before = {f"student.model.{x}": weight for x, weight in student.state_dict().items()}
    assert trained <= set(one)
    for weight, value in one.items():
        torch.testing.assert_close(value, two[weight], atol=1e-6, rtol=1e-4)
        if weight in before:
            assert torch.equal(value, before[weight]) == (weight not in trained), weight


@pytest.mark.slow
@pytest.mark.parametrize("name", ["matryoshka", "sparse", "late_interaction", "cross_encoder"])
def test_other_students_take_the_step_of_one(stepped, student_folder, name):
    one, two = (load_file(folder / name / "model.safetensors") for folder in stepped)
    start = load_file(os.path.join(student_folder, "model.safetensors"))
    names = {weight: next((x for x in one if x.endswith(weight)), None) for weight in start}
    moved = [(one[x] - start[weight]).abs().max().item() for weight, x in names.items() if x is not None]
    assert len(moved) > 20 and max(moved) > 1e-5
    assert set(one) == set(two)
    for weight, value in one.items():
        torch.testing.assert_close(value, two[weight], atol=1e-6, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flops", "layerwise", "joint", "pairwise", "refresh", "clusters"])
def test_what_reads_more_than_scores_takes_the_step_of_one(stepped, student_folder, name):
    """Means over a batch are of all processes', a trained teacher is in step, pools are renewed alike."""
    one, two = (load_file(folder / name / "model.safetensors") for folder in stepped)
    assert set(one) == set(two)
    start = load_file(os.path.join(student_folder, "model.safetensors"))
    ends = {x: [weight for name, weight in one.items() if name.endswith(x)] for x in start}
    assert any((weight - start[x]).abs().max() > 1e-6 for x, found in ends.items() for weight in found)
    assert any(weight.startswith("teacher.") for weight in one) == (name == "joint")
    for weight, value in one.items():
        torch.testing.assert_close(value, two[weight], atol=1e-6, rtol=1e-4)
