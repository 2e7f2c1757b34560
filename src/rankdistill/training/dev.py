"""Evaluation while training: on which queries, when to stop, and which checkpoint is the best."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
from transformers import TrainerCallback, TrainerState, TrainingArguments

from rankdistill.data.collection import Collection, Qrels
from rankdistill.errors import InputError, check_counts, check_seed, shorten
from rankdistill.evaluation import Evaluator
from rankdistill.runtime.checked import checked
from rankdistill.runtime.folders import SEAL
from rankdistill.scores.table import ScoreTable
from rankdistill.training.checkpoints import check_sealed

log = logging.getLogger(__name__)
HOW = "give evaluation.dev_split=dev, or evaluation.dev_queries=100 to hold out training queries"


@checked
def hold_out(
    table: ScoreTable, queries: int, split: str = "train", seed: int = 0
) -> tuple[ScoreTable, Qrels]:
    """``table`` without ``queries`` of its queries of ``split``, drawn with ``seed``, and their judgments.

    Queries with the text of one that is held out leave the table too (``without``). Raises ``InputError`` if
    none is left.
    """
    check_counts(dev_queries=queries)
    check_seed(seed)
    collection, rows = table.collection, table.candidates.query_rows
    known = np.flatnonzero(np.isin(rows, collection.query_rows(split)))
    if queries >= len(known):
        raise InputError(
            f"dev_queries={queries}: {len(known)} training queries are judged, and some must be left"
        )
    drawn = np.random.default_rng(seed).choice(known, queries, replace=False)
    left = without(table, rows[drawn])
    if not len(left):
        raise InputError(f"dev_queries={queries}: no training query with another text is left")
    judged = collection.judged(split)
    held = [collection.query_ids[row] for row in sorted(rows[drawn])]
    log.info("%d of %d training queries are held out to evaluate on", len(held), len(rows))
    return left, {query: judged[query] for query in held}


def without(table: ScoreTable, rows: np.ndarray) -> ScoreTable:
    """``table`` without query ``rows`` of its collection, nor those that have the text of one of them.

    Case and white space make no other text.
    """
    same = table.collection.alike_queries
    gone = rows if same is None else list(same.rows(rows))
    return table.take(np.flatnonzero(~np.isin(table.candidates.query_rows, gone)))


def dev_collection(table: ScoreTable, dev: str | Qrels) -> tuple[Collection, str]:
    """The collection and the split that ``dev`` means: a split's name, or judgments.

    Raises ``InputError`` if there is no such split, or ``table`` trains on one of its queries.
    """
    if isinstance(dev, str):
        collection, split = table.collection, dev
    else:
        collection, split = dataclasses.replace(table.collection, qrels={"dev": dev}), "dev"
    if split not in collection.qrels:
        raise InputError(
            f"{collection.name}: no split {split!r}; available: {shorten(collection.qrels, 9)}; {HOW}"
        )
    check_apart(collection, split, collection.query_rows(split), table.candidates.query_rows, "training")
    return collection, split


def check_apart(collection: Collection, split: str, dev: np.ndarray, others: np.ndarray, name: str) -> None:
    """Raises ``InputError`` if query rows ``dev`` of ``split`` are among ``others``, those of ``name``."""
    shared = [collection.query_ids[row] for row in np.intersect1d(dev, others)]
    if shared:
        raise InputError(
            f"{split}: {len(shared)} of its {len(dev)} queries are {name} queries too ({shorten(shared)}); "
            f"a model is chosen on queries that are neither trained on nor tested; {HOW}"
        )


def with_measure(arguments: TrainingArguments, evaluator: Evaluator) -> None:
    """Sets in ``arguments`` what the best model is chosen by: the evaluator's first measure, unless named."""
    name = arguments.metric_for_best_model
    if name in (None, "loss"):  # transformers' own default
        arguments.metric_for_best_model, arguments.greater_is_better = evaluator.main, True
    elif name.removeprefix("eval_") not in evaluator.measures:
        raise InputError(
            f"trainer.metric_for_best_model={name!r}: evaluator.measures are {', '.join(evaluator.measures)}"
        )


class DevCallback(TrainerCallback):
    """Saves a model that is the best so far, and stops after ``patience`` evaluations without a better one.

    Both follow from the logged history alone, so that a resumed run decides as one that was not interrupted.
    """

    def __init__(self, patience: int | None):
        self.patience = patience

    def since_best(self, args: TrainingArguments, state: TrainerState) -> int:
        """How many evaluations ago the best one was; -1 where there was none."""
        key = f"eval_{str(args.metric_for_best_model).removeprefix('eval_')}"
        values = np.array([row[key] for row in state.log_history if key in row and row["step"] > 0])
        if not len(values):
            return -1
        return int(len(values) - 1 - (values if args.greater_is_better else -values).argmax())

    def ran_out(self, args: TrainingArguments, state: TrainerState) -> bool:
        return self.patience is not None and self.since_best(args, state) >= self.patience

    def on_train_begin(self, args, state, control, **kwargs):
        if args.load_best_model_at_end and state.best_global_step:  # the folder may have been moved
            best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
            remedy = f"delete {args.output_dir} to start again"
            if not best.exists():
                raise InputError(f"{best}: the best model so far is missing; {remedy}")
            if (best / SEAL).exists():
                check_sealed(best, remedy)
            state.best_model_checkpoint = str(best)

    def on_evaluate(self, args, state, control, **kwargs):
        if state.global_step == 0:
            return
        if args.load_best_model_at_end and self.since_best(args, state) == 0:
            control.should_save = True
        if self.ran_out(args, state):
            log.info(
                "stopped at step %d: %d evaluations without a better one", state.global_step, self.patience
            )
            control.should_training_stop = True
