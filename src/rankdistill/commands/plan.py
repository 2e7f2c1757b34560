"""From a configuration to the stages of a run: what is wrong with them shows before anything long."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from rankdistill.commands.explain import OWN, choices
from rankdistill.commands.launch import make
from rankdistill.errors import InputError, check_counts, fields_of
from rankdistill.runtime.fields import check_fields
from rankdistill.runtime.folders import plain
from rankdistill.teachers import FileTeacher
from rankdistill.training import training_arguments
from rankdistill.training.dev import HOW
from rankdistill.training.orders import ClusteredOrder
from rankdistill.training.rates import AUTO
from rankdistill.training.refresh import Refresh
from rankdistill.training.stages import Stage
from rankdistill.training.step_teacher import StepTeacher
from rankdistill.training.trainer import check_scores

SCORES = (
    "similarity",
    "scale",
    "teacher_scores",
    "teacher_scale",
    "teacher_weights",
    "relabel",
    "relabel_margin",
    "chunk_tokens",
    "grad_cache",
)
# of a stage; its table is from the first three, see rankdistill.commands.tables
PARTS = (
    *("candidates", "cut", "teacher"),
    *("loss", "order", "refresh", "sampler", "scores", "step_teacher", "trainer", "trains"),
)


def plan(config: DictConfig, folder: Path) -> list[Stage]:
    """The stages that ``config`` asks for, their parts made: what is wrong with them shows now."""
    stages = []
    # one model, whichever stages share it
    whole = make(config.get("step_teacher") or None, StepTeacher | None)
    order = make(config.get("order") or None, ClusteredOrder | None)
    refresh = make(config.get("refresh") or None, Refresh | None)
    for name in stage_names(config):
        settings = config[name]
        if name == "warmup" and "loss" not in (settings or {}):
            continue  # warmup=none, whatever else is set of it
        check_fields(config, dict.fromkeys((f"{name}.trainer", f"{name}.scores"), dict | None))
        check_fields(config, {f"{name}.trains": list | None})
        trains = None if settings.get("trains") is None else settings.trains
        patterns = [trains] if isinstance(trains, str) else trains and [str(x) for x in trains]
        own = "step_teacher" in settings
        if unknown := [field for field in settings if field not in PARTS]:
            raise InputError(f"{name}.{unknown[0]}: no such field; {choices(str(unknown[0]), PARTS)}")
        fields, scores = (
            plain(config[part]) | plain(settings.get(part) or OmegaConf.create({}))
            for part in ("trainer", "scores")
        )
        if scores["similarity"] != config.scores.similarity:
            raise InputError(
                f"{name}.scores.similarity: all stages have the same similarity; set scores.similarity"
            )
        for field in scores:
            if field not in SCORES:
                raise InputError(f"{name}.scores.{field}: no such field; {choices(str(field), SCORES)}")
        check_scores_of(f"{name}.scores", scores)
        if refused := [field for field in OWN if field in fields]:
            raise InputError(f"trainer.{refused[0]}: set {OWN[refused[0]]}=...")
        if searches := fields.get("learning_rate") == AUTO:
            del fields["learning_rate"]
        with named_by(name, settings):
            arguments = training_arguments(str(folder / name), seed=config.seed, **fields)
        stages.append(
            Stage(
                name,
                folder / name,
                make(settings.get("sampler") or config.sampler),
                make(settings.get("loss") or config.loss, nn.Module),
                arguments,
                scores,
                make(settings.step_teacher or None, StepTeacher | None) if own else whole,
                patterns,
                make(settings.order or None, ClusteredOrder | None) if "order" in settings else order,
                make(settings.refresh or None, Refresh | None) if "refresh" in settings else refresh,
                searches,
            )
        )
    if not stages:
        raise InputError("stages: there is none to train; name one or more, as stages=[distillation]")
    return stages


def makes(config: DictConfig) -> list[Any]:
    """The parts of ``config`` whose models the run loads."""
    whole = ["student", "cut", "order", "refresh", "step_teacher"]
    stages = [config[name] for name in stage_names(config)]
    stages = [
        stage for stage in stages if stage and not (stage is config.get("warmup") and "loss" not in stage)
    ]
    own = [stage.get("teacher") for stage in stages]
    teachers = [*own, *([config.teacher] if None in own else [])]
    if not all(str(one.get("_target_")).endswith(f".{FileTeacher.__name__}") for one in teachers if one):
        whole.append("candidates")  # a file of scores has its own
    return [*(config.get(part) for part in whole), *stages, *teachers]


@contextmanager
def named_by(name: str, settings: DictConfig) -> Iterator[None]:
    """What is refused in here names a trainer's field that ``settings`` have as that of stage ``name``."""
    try:
        yield
    except InputError as error:
        own = settings.get("trainer") or {}
        field = re.match(r"trainer(?:\.(\w+)|: .*'(\w+)'$)", str(error))
        if field and (field[1] or field[2]) in own:
            raise InputError(f"{name}.{error}") from None
        raise


def stage_names(config: DictConfig) -> list[str]:
    """``stages``; raises ``InputError`` unless each is there once, and is a part of ``config``."""
    if not OmegaConf.is_list(config.stages):
        raise InputError(f"stages={config.stages!r}: it must be a list, such as stages=[distillation]")
    names = list(config.stages)
    for i, name in enumerate(names):
        if not isinstance(name, str) or name not in config:
            raise InputError(f"stages: {name}: there is no such part; add one, as +{name}.loss=...")
        part = config[name]
        if part is None and name != "warmup":  # which is warmup=none
            raise InputError(
                f"{name}: a stage without fields; give it those that differ from the other stages, or {{}} "
                "if none does"
            )
        if part is not None and (
            not OmegaConf.is_dict(part) or "_target_" in part or name in (*PARTS, "evaluation")
        ):
            raise InputError(
                f"stages: {name} is not a stage, a part with a loss, a sampler or trainer fields"
            )
        if name in names[:i]:
            raise InputError(f"stages: {name} is given twice; give the second one another name")
    return names


def check_scores_of(part: str, scores: Mapping[str, Any]) -> None:
    """Raises ``InputError``, in the fields of ``part``, unless ``scores`` can be made so."""
    with fields_of(part):
        check_scores(**{name: scores[name] for name in inspect.signature(check_scores).parameters})


def check_dev(evaluation: DictConfig, stages: Sequence[Stage]) -> None:
    """Raises ``InputError`` unless it is said both when the dev split is measured, and which it is."""
    check_counts(**{f"evaluation.{name}": evaluation[name] for name in ("dev_queries", "patience")})
    chosen = [name for name in ("dev_split", "dev_queries") if evaluation[name] is not None]
    if len(chosen) > 1:
        raise InputError("evaluation.dev_split and evaluation.dev_queries: give one of them")
    watched = [stage.name for stage in stages if stage.arguments.eval_strategy != "no"]
    searching = [stage.name for stage in stages if stage.searches_rate]
    if watched and not chosen:
        raise InputError(f"trainer.eval_strategy: no queries to measure the {watched[0]} stage on; {HOW}")
    if searching and not chosen:
        raise InputError(f"trainer.learning_rate=auto: no queries to compare rates on; {HOW}")
    asked = [*chosen, *(["patience"] if evaluation.patience is not None else [])]
    if asked and not watched and (not searching or evaluation.patience is not None):
        raise InputError(
            f"evaluation.{asked[0]}: nothing is measured while training; add trainer.eval_strategy=steps "
            "trainer.eval_steps=50"
        )
    if evaluation.dev_split == evaluation.split:
        raise InputError(
            f"evaluation.dev_split={evaluation.split}: what the run is measured on cannot choose its model; "
            f"{HOW}"
        )
