"""transformers' ``TrainingArguments``, checked, with defaults that suit a student."""

import copy
import dataclasses
import logging
import math
import typing
from collections.abc import Mapping
from types import NoneType
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import PreTrainedModel, Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_utils import SaveStrategy, SchedulerType
from transformers.training_args import OptimizerNames

from rankdistill.errors import InputError, check_seed
from rankdistill.runtime.checked import checked
from rankdistill.runtime.fields import alternatives, check_value
from rankdistill.runtime.hardware import has_bf16

log = logging.getLogger(__name__)
LEAST = {
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "learning_rate": 0,
    "num_train_epochs": 0,
    "warmup_steps": 0,
    "weight_decay": 0,
    "adam_beta1": 0,
    "adam_beta2": 0,
    "adam_epsilon": 0,
    "max_grad_norm": 0,
    "dataloader_num_workers": 0,
    "logging_steps": 0,
    "eval_steps": 0,
    "eval_delay": 0,
    "save_steps": 0,
    "save_total_limit": 1,
    "ddp_timeout": 1,
}
MEMORY = "for less memory set scores.grad_cache=true, or lower trainer.per_device_train_batch_size"
MEASURED = "the dev split is measured by the evaluator, which needs none of this"
HUB = "upload the run's folder model when it is finished"
LENGTH = "the order is drawn from seed alone; chunks keep texts of like length together"
ONE_DEVICE = "a process trains the whole student on one device; torchrun starts several"
LABELS = "a batch has no column of labels; positives come from the collection's qrels"
COMPILED = "not used: a step's shapes differ from batch to batch"
UNSUPPORTED = {  # fields that the step has no use for
    "fp16": "trains in bf16=true or in float32",
    "bf16_full_eval": "evaluation is in bf16 where the machine computes in it",
    "fp16_full_eval": "evaluation is in bf16 where the machine computes in it",
    "gradient_checkpointing": f"not used; {MEMORY}",
    "gradient_checkpointing_kwargs": f"not used; {MEMORY}",
    "activation_checkpointing": f"not used; {MEMORY}",
    "activation_checkpointing_kwargs": f"not used; {MEMORY}",
    "auto_find_batch_size": f"a smaller batch would be another run; {MEMORY}",
    "torch_compile": COMPILED,
    "torch_compile_backend": COMPILED,
    "torch_compile_mode": COMPILED,
    "use_liger_kernel": "not used: its kernels are for language models",
    "liger_kernel_config": "not used: its kernels are for language models",
    "use_cache": "not used: nothing is generated",
    "neftune_noise_alpha": "not used: no noise is added to embeddings; see student.dropout",
    "label_smoothing_factor": f"not used: {LABELS}",
    "label_names": LABELS,
    "length_column_name": LENGTH,
    "train_sampling_strategy": LENGTH,
    "data_seed": "groups and their order are drawn from seed; set that",
    "include_num_input_tokens_seen": "not used: the log has tokens_per_second",
    "optim_target_modules": "not used; student.lora trains few weights",
    "debug": "not used: a loss that is not finite is named with its queries",
    "per_device_eval_batch_size": MEASURED,
    "prediction_loss_only": MEASURED,
    "eval_do_concat_batches": MEASURED,
    "eval_use_gather_object": MEASURED,
    "eval_accumulation_steps": MEASURED,
    "include_for_metrics": MEASURED,
    "batch_eval_metrics": MEASURED,
    "do_predict": "not used: the run measures its split after training",
    "save_only_model": "a run is resumed from its optimizer's state too; leave it out",
    "enable_jit_checkpoint": "not used: set save_steps; the same command resumes from the last checkpoint",
    "ignore_data_skip": "a resumed run would see other groups than one that was not interrupted",
    "resume_from_checkpoint": "the same command in the same hydra.run.dir resumes; in Python: train(...)",
    "push_to_hub": HUB,
    "hub_model_id": HUB,
    "hub_token": HUB,
    "hub_private_repo": HUB,
    "hub_strategy": HUB,
    "hub_always_push": HUB,
    "hub_revision": HUB,
    "fsdp": ONE_DEVICE,
    "fsdp_config": ONE_DEVICE,
    "deepspeed": ONE_DEVICE,
    "parallelism_config": ONE_DEVICE,
    "warmup_ratio": "trainer.warmup_steps takes a share of the steps too, such as 0.1",
    "logging_dir": "trackers read it from variables of their own, such as TENSORBOARD_LOGGING_DIR",
    "accelerator_config": "not used: batches are shared out as the groups need it",
}
NEEDS_DEV = (
    "load_best_model_at_end",
    "metric_for_best_model",
    "greater_is_better",
    "eval_on_start",
    "do_eval",
)
BETAS = ("adam_beta1", "adam_beta2")
OTHER_WEIGHTS = ("galore", "apollo", "lomo", "adalomo", "schedule_free")


@checked
def training_arguments(output_dir: str, kind: type = TrainingArguments, **fields) -> TrainingArguments:
    """transformers' ``TrainingArguments`` with defaults that suit a student; ``fields`` override.

    ``kind`` may be a subclass.

    bf16 where the machine computes in it natively, nothing reported to trackers, no evaluation. A
    ``learning_rate`` of None is a transformer's, 5e-5; ``Ranker.learning_rate`` has those of others.
    Raises ``InputError`` for a field that ``TrainingArguments`` lacks or refuses, or that the step
    has no use for.
    """
    if not issubclass(kind, TrainingArguments):
        raise InputError(f"kind={kind.__name__}: it must be TrainingArguments, or a subclass")
    fields = {
        name: value.item() if isinstance(value, np.generic) else value for name, value in fields.items()
    }
    if fields.get("learning_rate", 0) is None:
        del fields["learning_rate"]
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name, value in fields.items():
        default = known[name].default if name in known else None
        if name in UNSUPPORTED and value and value != default:
            raise InputError(f"trainer.{name}: {UNSUPPORTED[name]}")
    for name, hint in typing.get_type_hints(kind).items():
        if name in fields and set(alternatives(hint)) <= {int, float, bool, str, NoneType}:
            check_value(f"trainer.{name}", fields[name], hint)
            if isinstance(fields[name], float):
                _check_range(name, fields[name])  # before transformers makes a number of steps of it
            if name in BETAS and fields[name] is not None:
                fields[name] = float(fields[name])  # torch takes no integer
    defaults: dict[str, Any] = {
        "per_device_train_batch_size": 16,
        "learning_rate": 5e-5,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,
        "num_train_epochs": 1,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": has_bf16(),
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    if (schedule := fields.get("lr_scheduler_type", "linear")) not in list(SchedulerType):
        names = ", ".join(one.value for one in SchedulerType)
        raise InputError(f"trainer.lr_scheduler_type={schedule!r}: it must be one of {names}")
    if fields.get("use_cpu") is False and not torch.accelerator.is_available():
        log.warning("trainer.use_cpu=false: there is no GPU here; it trains on the CPU")
        fields["use_cpu"] = True  # else transformers refuses bf16, and says to set use_cpu
    best = fields.pop("load_best_model_at_end", False)
    try:
        arguments = kind(output_dir=output_dir, **(defaults | fields))
    except (TypeError, ValueError, ImportError, AttributeError, KeyError, OverflowError) as error:
        raise InputError(f"trainer: {' '.join(str(error).split())}") from None
    if fields.get("report_to") in ("all", ["all"]) and not arguments.report_to:
        raise InputError("trainer.report_to=all: no tracker is installed; such as pip install tensorboard")
    if best:  # set here: how often is saved and evaluated need not agree, as a best model is saved when found
        arguments.load_best_model_at_end = True
        if arguments.save_strategy == SaveStrategy.NO:
            arguments.save_strategy = SaveStrategy.BEST
    check_arguments(arguments)
    return arguments


def check_arguments(arguments: TrainingArguments) -> None:
    """Raises ``InputError`` for a field that the step has no use for, or a value that would fail later."""
    plain = type(arguments)(output_dir=arguments.output_dir, use_cpu=arguments.use_cpu)
    for name, remedy in UNSUPPORTED.items():
        if getattr(arguments, name, None) != getattr(plain, name, None):
            raise InputError(f"trainer.{name}: {remedy}")
    for field in dataclasses.fields(arguments):
        _check_range(field.name, getattr(arguments, field.name))
    check_seed(arguments.seed, "trainer.seed")
    for name in BETAS:
        if getattr(arguments, name) >= 1:
            raise InputError(f"trainer.{name}={getattr(arguments, name)}: it must be below 1")
    if arguments.max_steps == 0 or arguments.max_steps < -1:
        raise InputError(
            f"trainer.max_steps={arguments.max_steps}: it must be 1 or more, or -1 for num_train_epochs"
        )
    _check_evaluation(arguments)
    for name in OTHER_WEIGHTS:
        if (optim := OptimizerNames(arguments.optim).value).startswith(name):
            raise InputError(f"trainer.optim={optim}: not used: it needs a step of its own")
    _try_parts(arguments)


def _check_range(name: str, value: object) -> None:
    least = LEAST.get(name, -math.inf)
    if isinstance(value, (int, float)) and not least <= value < math.inf:
        wanted = "a finite number" if least == -math.inf else f"{least} or more"
        raise InputError(f"trainer.{name}={value}: it must be {wanted}")


def _check_evaluation(arguments: TrainingArguments) -> None:
    """Whether what needs measures of a dev split while training gets them."""
    if arguments.eval_strategy != "no":
        return
    wants = [name for name in NEEDS_DEV if getattr(arguments, name)]
    if arguments.save_strategy == "best":
        wants.append("save_strategy")
    if wants:
        raise InputError(
            f"trainer.{wants[0]}: nothing is measured while training; set trainer.eval_strategy=steps, "
            "trainer.eval_steps and evaluation.dev_split"
        )


def _optimizer(arguments: TrainingArguments, model: nn.Module) -> tuple[Any, dict[str, Any]]:
    """The class and its options, as transformers' Trainer has them; it takes any module."""
    return Trainer.get_optimizer_cls_and_kwargs(arguments, cast(PreTrainedModel, model))


def _try_parts(arguments: TrainingArguments) -> None:
    """Makes optimiser, scheduler, loader and trackers, which would fail only when training begins."""
    toy, field = nn.Linear(1, 1), "optim"
    try:
        kind, options = _optimizer(arguments, toy)
        optimizer = kind(toy.parameters(), **options)
        if arguments.optim_args:
            field = "optim_args"
            bare = copy.copy(arguments)
            bare.optim_args = None
            if _optimizer(bare, toy)[1] == options:
                raise ValueError(f"optim={OptimizerNames(arguments.optim).value} takes none")
        field = "lr_scheduler_kwargs" if arguments.lr_scheduler_kwargs else "lr_scheduler_type"
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer,
            num_warmup_steps=arguments.get_warmup_steps(10),
            num_training_steps=10,
            scheduler_specific_kwargs=cast(dict, arguments.lr_scheduler_kwargs),
        )
        field = "dataloader"
        DataLoader(
            TensorDataset(torch.zeros(1)),
            num_workers=arguments.dataloader_num_workers,
            persistent_workers=arguments.dataloader_persistent_workers,
            multiprocessing_context=getattr(arguments, "dataloader_multiprocessing_context", None),
            prefetch_factor=arguments.dataloader_prefetch_factor,
        )
        field = "log_level"
        arguments.get_process_log_level()
        field = "report_to"
        for tracker in get_reporting_integration_callbacks(arguments.report_to):
            tracker()
    except Exception as error:  # of many makers, each with errors of its own
        value = getattr(arguments, field, "...")
        raise InputError(
            f"trainer.{field}={getattr(value, 'value', value)}: {' '.join(str(error).split())}"
        ) from None


def batch_of(arguments: TrainingArguments) -> dict[str, int]:
    """How many ``queries`` a step of the optimiser takes, and what they are the product of."""
    parts = {
        "processes": arguments.world_size,
        "accumulated": arguments.gradient_accumulation_steps,
        "per device": arguments.per_device_train_batch_size,  # a process has one, whatever it sees
    }
    return {"queries": math.prod(parts.values()), **parts}


def steps_of(arguments: TrainingArguments, groups: int) -> int:
    """How many steps a stage of so many ``groups`` an epoch makes."""
    if arguments.max_steps > 0:
        return arguments.max_steps
    return math.ceil(arguments.num_train_epochs * math.ceil(groups / batch_of(arguments)["queries"]))


def batch_in_words(batch: Mapping[str, int]) -> str:
    """``batch_of``: ``10 queries (2 processes x 5)``; a product of one factor is not written out."""
    parts = [f"{batch[name]} {name}" for name in ("processes", "accumulated") if batch[name] > 1]
    product = f" ({' x '.join([*parts, str(batch['per device'])])})" if parts else ""
    return f"{batch['queries']:,} {'query' if batch['queries'] == 1 else 'queries'}{product}"


def check_batches(arguments: TrainingArguments, groups: int) -> None:
    """Raises ``InputError`` if ``dataloader_drop_last`` drops all of an epoch's ``groups``."""
    batch = arguments.per_device_train_batch_size * arguments.world_size  # a process has one device
    if arguments.dataloader_drop_last and groups < batch:
        raise InputError(
            f"trainer.dataloader_drop_last: {groups} groups do not fill a batch of {batch}; lower "
            "trainer.per_device_train_batch_size, or leave it false"
        )
