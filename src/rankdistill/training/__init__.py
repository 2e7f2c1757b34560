"""The Trainer, its groups and its batches."""

from rankdistill.training.collator import GroupCollator
from rankdistill.training.groups import EpochSampler, Group, TrainingGroups
from rankdistill.training.trainer import BiEncoder, DistillationTrainer, training_arguments

__all__ = [
    "BiEncoder",
    "DistillationTrainer",
    "EpochSampler",
    "Group",
    "GroupCollator",
    "TrainingGroups",
    "training_arguments",
]
