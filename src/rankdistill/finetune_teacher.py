"""Trains a cross-encoder on a collection's own training judgments.

    python -m rankdistill.finetune_teacher data=beir data.path=path/to/collection

The result is a folder for ``teacher.model=<folder>/model``.
"""

import logging
from typing import cast

import numpy as np
from datasets import Dataset
from omegaconf import DictConfig
from sentence_transformers import CrossEncoder
from sentence_transformers.base.model import BaseModel
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import ListNetLoss
from transformers import set_seed

from rankdistill import processes
from rankdistill.candidates import mine
from rankdistill.cards import teacher_card
from rankdistill.command import command, make, make_retrievers
from rankdistill.data import Candidates, Collection
from rankdistill.errors import InputError, check_counts, check_seed, fields_of
from rankdistill.evaluation import Evaluator
from rankdistill.fields import check_fields
from rankdistill.folders import RunFolder, plain, write_json, write_text
from rankdistill.retrieval import stored_index
from rankdistill.students.dense import fast_attention
from rankdistill.students.lengths import limit_length
from rankdistill.students.load import hash_weights, load_weights, set_dropout
from rankdistill.students.sides import transformer_of
from rankdistill.summary import (
    accounted,
    evaluation_queries,
    measured_queries,
    table,
    write_conditions,
)
from rankdistill.teachers import CrossEncoderTeacher, score_candidates
from rankdistill.training import training_arguments
from rankdistill.training.checkpoints import last_checkpoint, resume, step_of

log = logging.getLogger(__name__)
FIELDS = {
    "seed": int,
    "model": str,
    "max_length": int,
    "dropout": float,
    "negatives": int,
    "candidates.retrievers": dict,
    "candidates.split": str,
    "candidates.limit": int | None,
    "evaluation": dict,
    "evaluation.split": str | None,
}


def training_rows(candidates: Candidates, negatives: int, seed: int = 0) -> Dataset:
    """A row per query: its text, a positive and ``negatives`` other candidates, and their labels.

    ListNet's target is the softmax of the labels: 100 and 0 make it one-hot, so that the loss is
    the cross-entropy of the positive; 1 and 0 would ask for a margin of no more than 1.

    Negatives are drawn uniformly from the pool, which holds hard and random ones. Queries whose
    pool has fewer are left out; raises ``InputError`` if that leaves none.
    """
    collection, rows = candidates.collection, []
    for i, query in enumerate(candidates.query_rows):
        span = candidates.pool(i)
        documents, positive = candidates.document_rows[span], candidates.positive[span]
        negative = candidates.negative[span]
        if positive.any() and negative.sum() >= negatives:
            rng = np.random.default_rng([seed, int(query)])
            chosen = [
                rng.choice(documents[positive]),
                *rng.choice(documents[negative], negatives, replace=False),
            ]
            rows.append(
                {
                    "query": collection.queries[query],
                    "documents": [collection.documents[row] for row in chosen],
                    "labels": [100.0] + [0.0] * negatives,
                }
            )
    if not rows:
        raise InputError(f"negatives={negatives}: no pool holds so many; lower it or mine more candidates")
    return Dataset.from_list(rows)


def run(config: DictConfig, folder: RunFolder) -> str:
    """Fine-tunes, measures by reranking, saves; returns the model's folder."""
    main = processes.is_main()
    check_fields(config, FIELDS)
    check_seed(config.seed)
    check_counts(negatives=config.negatives, max_length=config.max_length)
    set_seed(config.seed)
    # the loss runs the model several times a step, which DDP allows only so
    fields = {"ddp_find_unused_parameters": False} | plain(config.trainer)
    kind = CrossEncoderTrainingArguments
    arguments = cast(
        CrossEncoderTrainingArguments,
        training_arguments(str(folder.checkpoints), kind, seed=config.seed, **fields),
    )
    if arguments.eval_strategy != "no":
        raise InputError("trainer.eval_strategy: not here; the teacher is measured when it is trained")
    evaluator = make(config.evaluator, Evaluator)
    collection = make(config.data, Collection)
    log.info("%s", collection)
    split = config.evaluation.split
    if split is not None and split not in collection.qrels:
        log.info(
            "%s has no split %r: the teacher will not be measured (evaluation.split=test would)",
            collection.name,
            split,
        )
        split = None
    elif split is not None:
        collection.query_rows(split)  # what is wrong with the split shows now
    retrievers = make_retrievers(config.candidates.retrievers)
    logging.getLogger("transformers").setLevel(logging.ERROR)  # that the scoring head is new is meant
    path, inputs = folder.path, {"collection": collection.fingerprint}
    if folder.ended and folder.finished(**inputs, model=hash_weights(starting_model(config), [])):
        return str(path / "model")
    with fields_of("candidates"):
        candidates = mine(collection, retrievers, config.candidates.split, config.candidates.limit)
    rows = training_rows(candidates, config.negatives, config.seed)
    model = starting_model(config)
    inputs |= {"candidates": candidates.fingerprint, "model": hash_weights(model, [])}
    limit_length(model, config.max_length, config.model, pair=True)
    set_dropout(transformer_of(model), config.dropout)
    loss = ListNetLoss(model)
    trainer = CrossEncoderTrainer(model=model, args=arguments, train_dataset=rows, loss=loss)
    log.info("training on %d groups of %d", len(rows), config.negatives + 1)
    identity = folder.begin(**inputs)
    if main:
        if (checkpoint := last_checkpoint(folder.checkpoints)) is not None:
            folder.note_resumed(f"step {step_of(checkpoint)}")
    processes.wait()
    with fast_attention(transformer_of(model), model.device):
        resume(trainer, folder.checkpoints, identity)
    if main:
        with folder.drafted("model") as draft:
            model.save_pretrained(str(draft), create_model_card=False)
    processes.wait()
    taught, relevant = config.candidates.split, len(collection.query_rows(config.candidates.split))
    judged = len(collection.judged(taught))
    reasons = {
        "no relevant document": judged - relevant,
        f"candidates.limit={config.candidates.limit}": relevant - len(candidates),
        f"fewer than {config.negatives} negatives": len(candidates) - len(rows),
    }
    queries = {"training": accounted(taught, judged, len(rows), reasons)}
    results, metrics = "", {}
    if split is not None:
        pools = mine(collection, retrievers, split, evaluator.limit, evaluator.seed)
        scores = score_candidates(CrossEncoderTeacher(str(path / "model"), config.max_length), pools)
        student = make(config.student, BaseModel)
        documents = stored_index(student, collection)
        reranked = evaluator.rerank(scores, split)
        metrics = {
            "retrieved": dict(evaluator.evaluate(student, collection, split, documents).mean),
            "reranked": dict(reranked.mean),
        }
        measured = len(reranked.per_query[evaluator.main])
        queries["evaluation"] = evaluation_queries(collection, split, measured, evaluator.limit)
        results = f"{table(metrics)}\n\nMeasured: {measured_queries(collection, split, measured)}."
        if metrics["reranked"][evaluator.main] <= metrics["retrieved"][evaluator.main]:
            log.warning(
                "the teacher reranks no better than its candidates were retrieved: it needs more training"
            )
        if main:
            write_json(path / "metrics.json", metrics)
            print(f"\n{results}")
    if main:
        measures = metrics.get("reranked", {})
        card = teacher_card(plain(config), candidates, model, len(rows), measures, results)
        write_text(path / "model" / "README.md", card)
        write_conditions(  # last: it says that the run is finished
            path, settings=folder.settings, **inputs, queries=queries, resumed=folder.resumed
        )
        folder.clear()
        print(f"\nUse it: teacher.model={path / 'model'}")
    return str(path / "model")


def starting_model(config: DictConfig) -> CrossEncoder:
    return load_weights(CrossEncoder, config.model, ("SentenceTransformer",), num_labels=1)


if __name__ == "__main__":
    command(run, "finetune_teacher")
