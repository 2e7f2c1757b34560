"""Trains a cross-encoder on a collection's own training judgments.

    rankdistill finetune_teacher data=beir data.path=path/to/collection

It is ``rankdistill train`` with student=cross_encoder, teacher=none and loss=lce. The result is a run folder
for ``teacher.model=<folder>/model``.
"""

import logging

from omegaconf import DictConfig

from rankdistill.commands import train
from rankdistill.commands.launch import command
from rankdistill.commands.summary import read_measures
from rankdistill.errors import InputError, check_counts
from rankdistill.runtime import processes
from rankdistill.runtime.fields import check_fields
from rankdistill.runtime.folders import RunFolder

log = logging.getLogger(__name__)
FIELDS = {"model": str, "max_length": int, "dropout": float, "negatives": int}


def run(config: DictConfig, folder: RunFolder) -> float:
    """As ``train.run``; warns if the model reranks no better than its candidates were retrieved."""
    check_fields(config, FIELDS)
    check_counts(negatives=config.negatives, max_length=config.max_length)
    check_student(config)
    if config.evaluation.split is None:
        raise InputError("evaluation.split=null: it must name a split to measure on, such as dev or test")
    measure = train.run(config, folder)
    if processes.is_main():
        metrics = read_measures(folder.path)
        name = next(iter(metrics["after"]))
        if "retrieved" in metrics and metrics["after"][name] <= metrics["retrieved"][name]:
            log.warning(
                "the teacher reranks no better than its candidates were retrieved: it needs more training"
            )
        print(f"\nUse it: teacher.model={folder.path / 'model'}")
    return measure


def check_student(config: DictConfig) -> None:
    """Raises ``InputError`` if ``student`` is what retrieves, as it was before, and not what is trained."""
    encoder = "the encoder of dense candidates is candidates.encoder=..."
    if not str(config.student.get("_target_")).endswith(".load_cross_encoder"):
        raise InputError(f"student: it must be cross_encoder, which is trained here; {encoder}")
    for field in ("model", "max_length", "dropout"):
        if (value := config.student.get(field)) != config[field]:
            raise InputError(f"student.{field}={value}: the cross-encoder's is set as {field}=...; {encoder}")


if __name__ == "__main__":
    command(run, "finetune_teacher")
