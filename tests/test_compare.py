"""``rankdistill compare``: from a file with an idea to a corrected table."""

import subprocess
import sys
import time

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from rankdistill.commands.compare import AGAINST, main, parts_of, words_of
from rankdistill.commands.words import config_folder
from rankdistill.errors import InputError
from rankdistill.evaluation.training_runs import read_runs

SAMPLER = '''
import numpy as np
from rankdistill.samplers import HardNegativeSampler


class Lowest:
    """The positive, and the three that the teacher likes least."""

    positives, negatives = 1, 3

    def select(self, scores, positive, rng):
        others = np.flatnonzero(~positive)
        return np.concatenate([np.flatnonzero(positive)[:1], others[np.argsort(scores[others])][:3]])


class _Helper:
    def select(self):
        raise NotImplementedError
'''
LOSS = """
from torch import nn


class KL(nn.Module):
    def __init__(self, temperature=1.0):
        super().__init__()

    def forward(self, student, teacher, positive, mask):
        return (student - teacher).square().mean()
"""


FAILING = """class S:
    def select(self, scores, positive, rng):
        raise KeyError("oops")
"""


def test_what_a_file_has_is_found_by_what_it_does(tmp_path):
    """Neither what it imports nor what is private; a name that the library has gets another one."""
    for name, text in (("my_sampler", SAMPLER), ("my_loss", LOSS)):
        (tmp_path / f"{name}.py").write_text(text)
    assert parts_of(tmp_path / "my_sampler.py") == ("sampler", {"lowest": {"_target_": "my_sampler.Lowest"}})
    kind, own = parts_of(tmp_path / "my_loss.py")
    assert (kind, own) == ("loss", {"own_kl": {"_target_": "my_loss.KL", "temperature": 1.0}})
    words = words_of(kind, own, "compare", tmp_path / "options", ["seed=0"])
    losses = ",".join(["own_kl", *AGAINST["loss"]])
    assert words[:3] == ["-m", "--config-dir", str(tmp_path / "options")]
    assert words[3:] == ["+study=compare", f"loss={losses}", "seed=0"]
    assert OmegaConf.load(tmp_path / "options" / "loss" / "own_kl.yaml") == own["own_kl"]


def test_what_it_compares_with_is_there():
    for kind, names in AGAINST.items():
        assert all((config_folder() / kind / f"{name}.yaml").exists() for name in names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such Python file"),
        ("x = 1", "neither a class with select nor a torch module"),
        (SAMPLER + LOSS, "both samplers and losses"),
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        (LOSS.replace("temperature=1.0", "temperature"), "KL must be made without arguments"),
        (FAILING, r"S.select fails on a pool of 64 documents: KeyError: 'oops' \(line 3\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError, match=message):
        parts_of(tmp_path / "mine.py")


def test_a_file_must_not_hide_a_module_of_python_s(tmp_path):
    (tmp_path / "random.py").write_text(SAMPLER)
    with pytest.raises(InputError, match="another name"):
        parts_of(tmp_path / "random.py")


@pytest.mark.parametrize("name", ["options/sampler/lowest.yaml", "python_functions/sweep.log"])
def test_what_it_did_not_write_stays(tmp_path, monkeypatch, capsys, name):
    (tmp_path / "mine.py").write_text(SAMPLER)
    file = tmp_path / "into" / name
    file.parent.mkdir(parents=True)
    file.write_text("somebody's own")
    monkeypatch.setattr(
        "rankdistill.commands.compare.end_on_signals", lambda: None
    )  # they are this process's
    monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path / "mine.py"), "--into", str(tmp_path / "into")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and file.read_text() == "somebody's own"
    said = capsys.readouterr().err
    assert said.startswith(f"error: {file}: is there already, and no such command wrote it")


@pytest.mark.slow
def test_an_idea_becomes_a_table(tmp_path, beir, student_folder):
    """From another folder; what fails ends in the sweep's own line."""
    (tmp_path / "my_sampler.py").write_text(SAMPLER)
    words = [sys.executable, "-m", "rankdistill", "compare", "my_sampler.py", "--data", str(beir)]
    words += ["seed=0", "teacher=bm25", f"student.model={student_folder}", "student.vectors=input"]
    words += [
        "student.dimensions=8",
        "trainer.max_steps=2",
        "warmup.trainer.max_steps=2",
    ]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runs = read_runs(tmp_path / "outputs" / "my_sampler" / beir.name)
    assert sorted(run.choices["sampler"] for run in runs) == sorted([*AGAINST["sampler"], "lowest"])
    assert "| lowest" in done.stdout and (tmp_path / "outputs/my_sampler" / beir.name / "report.md").exists()
    again = subprocess.Popen([*words, "--into", "other"], cwd=tmp_path, stdout=subprocess.PIPE)
    log = tmp_path / "other" / beir.name / "sweep.log"
    while again.poll() is None and not (log.exists() and log.read_text()):
        time.sleep(0.1)
    again.terminate()
    assert again.wait() == 143
    (log.parent / "0").mkdir(exist_ok=True)
    FileLock(log.parent / "0" / ".lock").acquire(blocking=False).lock.release()  # nobody works there
    done = subprocess.run([*words, "trainer.max_stepz=2"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert [x for x in done.stderr.splitlines() if "max_stepz" in x and x.startswith("error: ")]
