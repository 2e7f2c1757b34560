import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sentence_transformers import CrossEncoder, SentenceTransformer

from rankdistill.candidates import Dense, mine
from rankdistill.candidates.mining import candidates_path
from rankdistill.retrieval import embed_documents
from rankdistill.runtime import hardware
from rankdistill.runtime.folders import RunFolder
from rankdistill.runtime.hardware import kept_memory
from rankdistill.students import load_student
from rankdistill.teachers import CrossEncoderTeacher, DenseTeacher, LateInteractionTeacher
from rankdistill.teachers.scoring import scores_path
from rankdistill.training import training_arguments

MEASURE = """
import resource
from pathlib import Path
import torch
from rankdistill.runtime import hardware
from rankdistill.runtime.hardware import kept_memory

def faults():  # pages that the system hands out while a tensor like MiniLM's embeddings is made and freed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(48 << 20, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

print(min(faults() for _ in range(10)))
with kept_memory():
    print(min(faults() for _ in range(10)))
    held = resident()
print(held - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_is_kept_for_a_while_only():
    """In a process of its own, whose heap is not yet cut up."""
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    outside, inside, given_back = map(int, run.stdout.split())
    assert inside < outside / 4
    assert given_back > 24 << 20


def test_another_allocator_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", None)
    with kept_memory():
        pass


@pytest.mark.parametrize("limit", [{"ATEN_CPU_CAPABILITY": "avx2"}, {"ONEDNN_MAX_CPU_ISA": "avx2"}])
def test_units_that_are_not_to_be_used_are_none(limit):
    """With them, whoever emulates bf16 takes many times as long."""
    code = "from rankdistill.runtime.hardware import has_bf16; print(has_bf16())"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | limit
    )
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize(("threads", "load", "warned"), [(2, 2.5, True), (2, 2.0, False), (1, 9.0, False)])
def test_a_busy_machine_is_warned_of(threads, load, warned, monkeypatch, caplog):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(hardware, "has_bf16", lambda: False)
    with caplog.at_level("INFO"):
        hardware.tell_threads()
    first, *more = caplog.messages
    assert first == f"{threads} thread{'s' * (threads > 1)} on 2 cores, float32"
    assert [f"a load of {load} on 2 cores" in line for line in more] == [True] * warned


def computed(model, teacher, collection):
    """Embeddings, scores of the teachers, and where the cache keeps what they score and find."""
    late, dense = LateInteractionTeacher(model), DenseTeacher(model)
    queries, documents = collection.queries[:4], collection.documents[:4]
    cross = CrossEncoderTeacher(teacher)
    retriever = Dense(load_student(model), 3)
    vectors = embed_documents(retriever.model, documents)
    scores = [one.score(queries, documents) for one in (cross, dense, late)]
    pools = mine(collection, [retriever])
    kept = [scores_path(one, pools) for one in (cross, dense, late)]
    return [vectors, *scores], [*kept, candidates_path(collection, [retriever])]


def test_float32_where_there_are_bf16_units(student_folder, cross_encoder_folder, collection, monkeypatch):
    """To sentence-transformers' digits; what was scored, found or measured in bf16 is not taken for it."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(hardware, "is_held_back", lambda: False)
    model, teacher = str(student_folder), str(cross_encoder_folder)
    halves, where_halves = computed(model, teacher, collection)
    folder = RunFolder("run", OmegaConf.create({}))
    monkeypatch.setenv("RANKDISTILL_PRECISION", "float32")
    found, where = computed(model, teacher, collection)
    expected = SentenceTransformer(model).encode(list(collection.documents[:4]), normalize_embeddings=True)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    logits = CrossEncoder(teacher, device="cpu", activation_fn=torch.nn.Identity())
    pairs = list(zip(collection.queries[:4], collection.documents[:4], strict=True))
    np.testing.assert_allclose(found[1], logits.predict(pairs), atol=1e-5)
    for half, single in zip(halves, found, strict=True):
        assert 0 < np.abs(half - single).max() < 0.5
    assert not set(where_halves) & set(where)
    assert RunFolder("run", OmegaConf.create({})).settings != folder.settings
    assert training_arguments("checkpoints", use_cpu=True).bf16 is False
