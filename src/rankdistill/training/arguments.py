"""transformers' ``TrainingArguments``, checked, with defaults that suit a student."""

import dataclasses

import torch
from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from rankdistill.errors import InputError
from rankdistill.hardware import has_bf16

LEAST = {
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "learning_rate": 0,
    "num_train_epochs": 0,
    "dataloader_num_workers": 0,
    "logging_steps": 0,
    "save_steps": 0,
}
UNSUPPORTED = {
    "fp16": "trains in bf16=true or in float32",
    "gradient_checkpointing": "not used; for less memory set scores.grad_cache=true",
    "save_only_model": "a run is resumed from its optimizer's state too; leave it out",
}


def training_arguments(output_dir: str, kind: type = TrainingArguments, **fields) -> TrainingArguments:
    """transformers' ``TrainingArguments`` with defaults that suit a student; ``fields`` override.

    ``kind`` may be a subclass.

    bf16 where the machine computes in it natively, nothing reported to trackers, no evaluation.
    Raises ``InputError`` for a field that ``TrainingArguments`` lacks or refuses, or that the step
    has no use for.
    """
    for field, remedy in UNSUPPORTED.items():
        if fields.get(field):
            raise InputError(f"trainer.{field}: {remedy}")
    for field in dataclasses.fields(kind):
        value = fields.get(field.name)
        if field.name not in fields or type(field.default) not in (int, float, bool):
            continue
        if isinstance(value, str) or value is None:
            wanted = "true or false" if type(field.default) is bool else "a number"
            raise InputError(f"trainer.{field.name}={value!r}: it is {wanted}")
    for field, value in fields.items():
        least = LEAST.get(field)
        if least is not None and isinstance(value, (int, float)) and not value >= least:
            raise InputError(f"trainer.{field}={value}: it is {least} or more")
    defaults = {
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
    try:
        arguments = kind(output_dir=output_dir, **(defaults | fields))
        get_reporting_integration_callbacks(arguments.report_to)  # knows their names
        return arguments
    except (TypeError, ValueError, ImportError, AttributeError, KeyError) as error:
        raise InputError(f"trainer: {' '.join(str(error).split())}") from None
