"""The documentation builds, and what it tells people to write works."""

import dataclasses
import importlib.util
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import typed
from conftest import rows_of
from hydra import compose, initialize_config_dir

import rankdistill
from rankdistill.__main__ import COMMANDS
from rankdistill.candidates import mine
from rankdistill.commands.launch import check_names, config_folder, open_field
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.losses import KLDivergence
from rankdistill.losses.base import columns_of, reads
from rankdistill.teachers import score_candidates
from rankdistill.training import StepTeacher, training_arguments
from rankdistill.vocabulary import Batch, Embeddings, Outputs

DOCS = Path(__file__).resolve().parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("furo", reason="needs the extra docs")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", str(DOCS), str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert "StratifiedSampler" in (tmp_path / "site" / "reference.html").read_text()


def texts() -> dict[str, str]:
    """Everything that a user reads of this repository, in one line each; not the stored reports."""
    top = DOCS.parent
    kinds = ("*.md", "docs/*.md", "notebooks/*.ipynb", "configs/**/*.yaml", "src/**/*.py")
    files = [file for kind in kinds for file in sorted(top.glob(kind))]
    return {
        str(file.relative_to(top)): re.sub(r"[\s#]+", " ", file.read_text(encoding="utf-8")) for file in files
    }


def test_no_page_says_that_a_report_averages_seeds_first():
    """Queries and seeds are both random, as the report has it; what was computed before says so."""
    pages = {name for name, text in texts().items() if "seeds averaged first" in text}
    assert not pages
    assert "queries and seeds as random" in texts()["notebooks/read_a_sweep.ipynb"]


def commands() -> list[str]:
    """What the pages say to type, less what has no configuration and what needs files of one's own."""
    text = "\n".join(block for page in sorted(DOCS.glob("*.md")) for block in blocks(page.name, "bash"))
    lines = [line.split("  #")[0].strip() for line in text.replace("\\\n", " ").splitlines()]
    lines = [line for line in lines if re.search(r"(^|-m )rankdistill (?!report|cache|compare)\w", line)]
    return [line for line in lines if "--config-dir" not in line]


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_pages_composes(command):
    """Its fields and options exist; what they do is tested elsewhere."""
    name, words = typed(command)
    name = "config" if name == "train" else name
    given = [open_field(word) for word in words if word != "-m"]
    first = [re.sub(r"=([^,{\[\"]+),.*", r"=\1", word) for word in given]  # a sweep's first job
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        check_names(compose(name, first), name)


def test_the_page_of_recipes_has_a_row_for_each():
    folder = config_folder() / "experiment" / "recipe"
    page = (DOCS / "recipes.md").read_text(encoding="utf-8")
    there = {file.stem for file in folder.glob("*.yaml")}
    named = set(re.findall(r"recipe/(\w+)", page))
    assert named == there


NUMBERS = {  # how many entries each part of the list has whose numbers the page of recipes answers to
    1: 19,  # samplers and negatives
    3: 13,  # teachers and labels
    4: 30,  # losses
    5: 12,  # procedures
    7: 4,  # indexes
}


def test_the_page_of_recipes_answers_to_every_number():
    page = (DOCS / "recipes.md").read_text(encoding="utf-8")
    cells = [row.split("|")[1] for row in page.splitlines() if re.match(r"\| \d", row)]
    found = {number for cell in cells for number in re.findall(r"\d+\.\d+", cell)}
    assert found == {f"{part}.{i}" for part, last in NUMBERS.items() for i in range(1, last + 1)}


def test_what_the_page_of_recipes_says_to_set_composes():
    page = (DOCS / "recipes.md").read_text(encoding="utf-8")
    cells = [row.split("|")[-2] for row in page.splitlines() if re.match(r"\| \d", row)]
    told = [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]
    assert len(told) > 40
    for code in told:
        words = ["+experiment=" + word if word.startswith("recipe/") else word for word in code.split()]
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            check_names(compose("config", [open_field(word) for word in words]), "config")


def test_the_page_of_commands_lists_them_all():
    there = set(COMMANDS)
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == there
    assert there == set(re.findall(r"^rankdistill (\w+)", page, re.MULTILINE)), "each is shown at work"


def test_no_page_tells_people_to_install_from_an_index_that_lacks_it():
    root = DOCS.parent
    files = [
        *DOCS.glob("*.md"),
        root / "README.md",
        *(root / "notebooks").glob("*"),
        *root.glob("src/**/*.py"),
    ]
    wrong = [
        f.name for f in files if re.search(r"pip install ['\"]?rankdistill", f.read_text(encoding="utf-8"))
    ]
    assert wrong == []


@pytest.fixture
def extending(tmp_path, monkeypatch):
    """The modules and configurations of the page, written where it says."""
    for text in blocks("extending.md", "python") + blocks("extending.md", "yaml"):
        if name := re.match(r"# (\S+\.(?:py|yaml))\n", text):
            file = tmp_path / name[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_pages_sampler_draws_what_it_says(extending):
    """Weights .4879, .4879, .0243 for a = .5, b = 1.5 and scores 1, 2 and 4 below the positive."""
    sampler = import_module("my_samplers").AmbiguousSampler(negatives=1)
    scores, positive = np.array([0, -1, -2, -4], np.float32), np.array([True, False, False, False])
    drawn = [sampler.select(scores, positive, np.random.default_rng(i)) for i in range(4000)]
    assert all(chosen[0] == 0 and len(chosen) == 2 for chosen in drawn)
    shares = np.bincount([chosen[1] for chosen in drawn], minlength=4)[1:] / len(drawn)
    assert shares == pytest.approx([0.4879, 0.4879, 0.0243], abs=0.025)


def test_the_pages_loss_has_the_value_it_says(extending):
    loss = import_module("my_losses").ReverseKL
    (block,) = (text for text in blocks("extending.md", "python") if "assert" in text)
    exec(block, {"ReverseKL": loss})


def test_the_pages_loss_that_reads_embeddings_has_the_value_it_says(extending):
    loss = import_module("my_regulariser").ShortDocuments(weight=0.5)
    rows, scores, vectors = torch.arange(2), torch.zeros(1, 2), torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    positive, mask = torch.tensor([[True, False]]), torch.ones(1, 2, dtype=torch.bool)
    batch = Batch(rows[:1], rows, rows.view(1, 2), positive, mask, {"scores": scores})
    student = Outputs(scores, documents=Embeddings(vectors))
    assert loss(student, Outputs(scores), batch).item() == 0.5 * (25 + 1) / 2
    assert reads(loss) == {"documents"}


def test_the_pages_loss_of_a_teacher_inside_the_step_pulls_documents_to_its_own(
    extending, table, student_folder, tmp_path
):
    loss = import_module("my_embeddings").SameDocuments()
    fields = {"max_steps": 1, "bf16": False, "disable_tqdm": True, "per_device_train_batch_size": 4}
    trainer = rankdistill.DistillationTrainer(
        rankdistill.load_student(student_folder),
        table,
        rankdistill.RandomSampler(1, 3),
        loss,
        training_arguments(str(tmp_path), **fields),
        step_teacher=StepTeacher(rankdistill.load_student(student_folder, layers=1)),
    )
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    own, other = (
        model.encode_document(
            [table.collection.documents[row] for row in batch["document_rows"]], normalize_embeddings=True
        )
        for model in (trainer.student, trainer.model.teacher.model)
    )
    expected = np.square(own - other).sum(axis=1).mean()
    assert trainer.compute_loss(trainer.model.eval(), batch).item() == pytest.approx(expected, rel=1e-4)


def test_the_pages_loss_of_several_teachers_has_the_value_it_says(extending):
    loss = import_module("my_ensemble").EachTeacher(("one", "other"))
    student, rows, whole = torch.tensor([[2.0, 0.0]]), torch.arange(2), torch.ones(1, 2, dtype=torch.bool)
    columns = {"one": torch.tensor([[1.0, 0.0]]), "other": torch.tensor([[0.0, 3.0]])}
    batch = Batch(rows[:1], rows, rows.view(1, 2), whole, whole, {"scores": student, **columns})
    expected = np.mean([KLDivergence()(student, scores, whole, whole) for scores in columns.values()])
    assert loss(Outputs(student), Outputs(student), batch).item() == pytest.approx(expected)
    assert columns_of(loss) == {"one", "other"}


def test_the_pages_student_is_trained_and_searches(extending, table, tmp_path, monkeypatch):
    """As the page has it: its weights move, and it finds what an exhaustive search by hand finds."""
    module, collection = import_module("my_students"), table.collection
    monkeypatch.chdir(tmp_path)
    quiet = training_arguments("checkpoints", max_steps=8, disable_tqdm=True, learning_rate=0.1, bf16=False)
    monkeypatch.setattr("rankdistill.training.trainer.training_arguments", lambda _: quiet)
    (block,) = (text for text in blocks("extending.md", "python") if "WeightedIndex(student" in text)
    names = {"rd": rankdistill, "collection": collection, "table": table} | vars(module)
    exec(block, names)
    student = names["student"]
    assert student.weights.detach().std() > 0.05, "they were all 1"
    found = Evaluator(["nDCG@5"], k=5).evaluate(
        None, collection, documents=module.WeightedIndex(student, collection.documents)
    )
    weights = dict(zip(student.number, student.weights.tolist(), strict=True))
    for query, ranked in found.run.ranking.items():
        words = set(collection.queries[collection.query_row[query]].split())
        sums = {
            name: sum(weights[word] for word in words & set(text.split()))
            for name, text in zip(collection.document_ids, collection.documents, strict=True)
        }
        best = sorted(sums.values(), reverse=True)[:5]
        assert [score for _, score in ranked] == pytest.approx(best, abs=1e-4)
        assert [sums[name] for name, _ in ranked] == pytest.approx(best, abs=1e-4)
    with pytest.raises(InputError, match="a Ranker of your own scores as it does"):
        rankdistill.DistillationTrainer(student, table, None, KLDivergence(), similarity="dot")


def test_the_pages_loss_with_a_parameter_learns_it(extending, table, student_folder, tmp_path):
    loss = import_module("my_scale").LearntScale()
    student, teacher = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
    whole = torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        loss.log_scale.fill_(np.log(2))  # then the two are alike
        assert loss(student, teacher, whole, whole).item() == pytest.approx(0, abs=1e-6)
        loss.log_scale.zero_()
    p, q = (np.exp(x) / np.exp(x).sum() for x in (teacher.numpy(), student.numpy()))
    expected = (p * np.log(p / q)).sum()
    assert loss(student, teacher, whole, whole).item() == pytest.approx(expected, abs=1e-6)
    fields = {"max_steps": 2, "bf16": False, "disable_tqdm": True, "logging_steps": 1}
    trainer = rankdistill.DistillationTrainer(
        rankdistill.load_student(student_folder),
        table,
        rankdistill.RandomSampler(1, 3),
        loss,
        training_arguments(str(tmp_path), **fields),
    )
    trainer.train()
    assert loss.log_scale.item() != 0 and any("loss.log_scale" in row for row in trainer.state.log_history)


def test_the_pages_teacher_inside_the_step_is_trained_with_the_student(
    extending, table, student_folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    quiet = training_arguments("checkpoints", max_steps=2, disable_tqdm=True, learning_rate=0.1, bf16=False)
    monkeypatch.setattr("rankdistill.training.trainer.training_arguments", lambda _: quiet)
    (block,) = (text for text in blocks("extending.md", "python") if "step_teacher=teacher" in text)
    encoder = rankdistill.load_student(student_folder)
    before = {name: weight.detach().clone() for name, weight in encoder.named_parameters()}
    names = {"rd": rankdistill, "collection": table.collection, "table": table, "encoder": encoder}
    names["WeightedWords"] = import_module("my_students").WeightedWords
    exec(block, names)
    assert names["words"].weights.detach().std() > 0.01, "they were all 1"
    assert any(not torch.equal(weight, before[name]) for name, weight in encoder.named_parameters())


def test_the_pages_retriever_and_teacher_mine_and_score(extending, small):
    """q0's words are "who", its positive d0; the documents are "text 0", "text 1", ..."""
    collection = dataclasses.replace(small, queries=["text 3 who", "5", "when"])
    retriever = import_module("my_retrievers").SharedWords(2)
    table = score_candidates(import_module("my_teachers").Overlap(), mine(collection, [retriever], "train"))
    found = rows_of(table)
    assert found["q0"] == {
        "d3": (pytest.approx(2 / 3), False),
        "d0": (pytest.approx(1 / 3), True),
    }, "d0, d1, ... share one word: the first of them is second"
    assert found["q1"] == {"d5": (1, False), "d1": (0, True), "d2": (0, True)}
    none = 65535
    assert (table.teacher, table.candidates.positive.tolist()) == (
        "overlap 1",
        [True, False, True, True, False],
    )
    assert {name: ranks.tolist() for name, ranks in table.candidates.ranks.items()} == {
        "words": [1, 0, none, none, 0]
    }


def test_the_pages_configurations_name_what_is_there(extending):
    files = sorted((extending / "my_configs").rglob("*.yaml"))
    assert [file.parent.name for file in files] == [*["loss"] * 4, "sampler", "teacher"]
    for file in files:
        fields = yaml.safe_load(file.read_text())
        module, _, name = fields.pop("_target_").rpartition(".")
        getattr(import_module(module), name)(**fields)


def test_the_pages_commands_choose_what_is_there(extending):
    """Those with --config-dir, which would fail on fields that a class of one's own does not take."""
    lines = "\n".join(blocks("extending.md", "bash")).splitlines()
    chosen = [shlex.split(line) for line in lines if "--config-dir my_configs" in line]
    assert len(chosen) == 4
    for words in chosen:
        for word in words[words.index("my_configs") + 1 :]:
            group, _, option = word.partition("=")
            files = [
                folder / group / f"{option}.yaml" for folder in (extending / "my_configs", config_folder())
            ]
            assert "." in group or any(file.exists() for file in files), word
    assert not any("_target_=my_" in line and "loss." in line for line in lines)


def extensions():
    """``scripts/extensions.py`` as a module."""
    script = DOCS.parent / "scripts" / "extensions.py"
    spec = importlib.util.spec_from_file_location("extensions", script)
    module = importlib.util.module_from_spec(spec)
    sys.modules["extensions"] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", extensions().EXTENSIONS)
def test_an_extension_s_command_composes_and_its_files_exist(name):
    module = extensions()
    extension = module.EXTENSIONS[name]
    for file in extension.files:
        assert (DOCS.parent / "src" / "rankdistill" / file).is_file(), file
    for yaml_file in extension.yamls:
        assert (config_folder() / yaml_file).is_file(), yaml_file
        group, _, option = yaml_file.removesuffix(".yaml").partition("/")
        assert f"{group}={option}" in extension.settings, "it is chosen by name"
    settings = [open_field(word) for word in (*module.COMMON, *extension.settings)]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", settings)
        check_names(config, "config")
    assert config.trainer.per_device_train_batch_size == module.BATCH
    assert module.KILLED_IN <= config.candidates.limit // module.BATCH * config.trainer.num_train_epochs
    before = (module.KILLED_IN - 1) // config.trainer.save_steps * config.trainer.save_steps
    assert module.RESUMED == f"resumed: distillation, step {before}"


def test_the_page_of_extensions_has_a_row_for_each():
    """As the script prints it: the same files, YAML and settings, with its head."""
    module = extensions()
    page = (DOCS / "extensions.md").read_text(encoding="utf-8")
    assert module.HEAD in page
    rows = [
        line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| extension")
    ]
    figures = [row.split(" | ")[4:] for row in rows]
    for name, row, cells in zip(module.EXTENSIONS, rows, figures, strict=True):
        assert row == module.line_of(name, " | ".join(cells).removesuffix(" |").split(" | ")), name
    assert all(cells[4] == "yes" for cells in figures)


def test_the_page_of_attacks_has_a_row_for_each():
    """In the words of the script, which prints the table."""
    script = (DOCS.parent / "scripts" / "attack.py").read_text(encoding="utf-8")
    page = (DOCS / "attacks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (.+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert [kind for kind, *_ in rows] == re.findall(r'^    "(\w+)": attack_', script, re.MULTILINE)
    said = re.findall(r'^def attack_.*\n    """(.+)\."""', script, re.MULTILINE)
    assert [what for _, what, *_ in rows] == said
    assert all(0 < int(survived) <= int(tried) for *_, tried, survived in rows)
