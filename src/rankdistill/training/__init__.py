"""The Trainer, its groups and its batches."""

from rankdistill.training.arguments import training_arguments
from rankdistill.training.collator import GroupCollator
from rankdistill.training.dev import hold_out
from rankdistill.training.groups import Group, TrainingGroups
from rankdistill.training.orders import ClusteredOrder, EpochSampler
from rankdistill.training.quantisation import JPQ, DistillVQ, FaissPQ
from rankdistill.training.refresh import Refresh
from rankdistill.training.step_teacher import StepTeacher
from rankdistill.training.trainer import DistillationTrainer

__all__ = [
    "ClusteredOrder",
    "DistillVQ",
    "DistillationTrainer",
    "EpochSampler",
    "FaissPQ",
    "Group",
    "GroupCollator",
    "JPQ",
    "Refresh",
    "StepTeacher",
    "TrainingGroups",
    "hold_out",
    "training_arguments",
]
