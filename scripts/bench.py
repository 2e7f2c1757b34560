"""rankdistill beside sentence-transformers on the same work: one table of ratios.

Each row runs both in one process, A B A B, and reports the median of the repeats' ratios. Same texts,
ids, order, maximum length and precision on both sides, dropout 0, loss equal at the first step. The peer
runs as its documentation has it and, where that helps it, with its best batch size too.

    python scripts/bench.py --rows step scoring --json bench.json
"""

import argparse
import json
import logging
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from sentence_transformers.util import pairwise_cos_sim
from torch.utils.data import BatchSampler, SequentialSampler

import rankdistill as rd
from rankdistill.hardware import has_bf16
from rankdistill.teachers.demo import merged
from rankdistill.training.groups import EpochSampler, TrainingGroups

QUERIES, LENGTH, SEED = 64, 256, 0


def collection_of(name: str) -> rd.Collection:
    return rd.python_functions() if name == "python_functions" else rd.read_beir(name, invalid="skip")


def table_of(collection: rd.Collection, queries: int, bm25: int = 20, random: int = 10) -> rd.ScoreTable:
    """Pools with scores drawn at random: the time of a step does not depend on them."""
    pools = rd.mine(collection, [rd.BM25(bm25), rd.Random(random)], "train", queries)
    scores = np.random.default_rng(0).normal(size=len(pools.document_rows)).astype(np.float32)
    return rd.ScoreTable(pools, scores)


def alternate(ours, peer, repeats: int) -> tuple[float, float, float]:
    """Median seconds of both and the median of their ratio (peer / ours), after one of each unmeasured.

    A side that returns a number of seconds has measured itself.
    """
    taken = {ours: [], peer: []}
    for repeat in range(repeats + 1):
        for run in (ours, peer):
            start = time.perf_counter()
            own = run()
            seconds = time.perf_counter() - start
            if repeat:
                taken[run].append(own if isinstance(own, float) else seconds)
    a, b = np.array(taken[ours]), np.array(taken[peer])
    return float(np.median(a)), float(np.median(b)), float(np.median(b / a))


def trained(trainer) -> tuple[float, float]:
    """The loss of the first step, and the seconds from there to the end of the last."""
    trainer.train()
    history = trainer.state.log_history
    return history[0]["loss"], float(history[-1]["train_runtime"])


def step(collection: rd.Collection, repeats: int, data: str) -> list[dict]:
    """Training steps of 4 queries x 8 documents, KL, both through their own Trainer."""
    steps, batch = 4, 4
    table = table_of(collection, QUERIES)
    fields = {
        "per_device_train_batch_size": batch,
        "max_steps": steps,
        "seed": SEED,
        "disable_tqdm": True,
        "bf16": has_bf16(),
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    losses = {}

    def ours():
        trainer = rd.DistillationTrainer(
            rd.load_student("minilm", max_length=LENGTH),
            table,
            rd.RandomSampler(),
            rd.KLDivergence(),
            rd.training_arguments(folder, **fields),
            teacher_scale=1.0,
        )
        losses["ours"], seconds = trained(trainer)
        return seconds

    groups = TrainingGroups(table, rd.RandomSampler(), seed=SEED)
    order = EpochSampler(len(groups), SEED)
    names = ["query", *(f"document_{i}" for i in range(8))]
    rows = []
    for group in (groups[i] for i in list(order)[: steps * batch]):
        texts = [collection.queries[group.query_row], *(collection.documents[d] for d in group.document_rows)]
        rows.append(dict(zip(names, texts, strict=True)) | {"label": group.teacher.tolist()})
    dataset = Dataset.from_list(rows)

    def in_order(dataset, batch_size, drop_last, **_):
        return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)

    def peer():
        model = rd.load_student("minilm", max_length=LENGTH)
        trainer = SentenceTransformerTrainer(
            model,
            SentenceTransformerTrainingArguments(folder, batch_sampler=in_order, **fields),
            dataset,
            loss=DistillKLDivLoss(model, similarity_fct=lambda a, b: 20 * pairwise_cos_sim(a, b)),
        )
        losses["peer"], seconds = trained(trainer)
        return seconds

    with tempfile.TemporaryDirectory() as folder:
        a, b, ratio = alternate(ours, peer, repeats)
    print(f"  loss at step 1: ours {losses['ours']}, sentence-transformers {losses['peer']}")
    return [row("step", collection, steps / a, steps / b, ratio, "steps/s")]


def scoring(collection: rd.Collection, repeats: int, data: str) -> list[dict]:
    """A cross-encoder's scores of 512 pairs; the peer with batches of 32 (its default) and of 16."""
    pools = rd.mine(collection, [rd.BM25(32)], "train", 16)
    queries, documents = zip(*list(pools.pairs(0, len(pools.document_rows)))[:512], strict=True)
    teacher = rd.CrossEncoderTeacher(merged("cross_encoder"), LENGTH)
    pairs, found = list(zip(queries, documents, strict=True)), {}

    def ours():
        found["ours"] = teacher.score(queries, documents)

    rows = []
    for size in (32, 16):

        def peer(size=size):
            found["peer"] = teacher.model.predict(
                pairs, batch_size=size, activation_fn=torch.nn.Identity(), show_progress_bar=False
            )

        a, b, ratio = alternate(ours, peer, repeats)
        n = len(pairs)
        rows.append(row(f"scoring, batch {size}", collection, n / a, n / b, ratio, "pairs/s"))
    apart = np.abs(found["ours"] - found["peer"]).max()
    print(f"  largest difference of two scores: {apart:.3g}, their deviation {found['ours'].std():.3g}")
    return rows


def table(collection: rd.Collection, repeats: int, data: str) -> list[dict]:
    """Opening a score table and reading every pool, against JSON: query -> document -> score."""
    scored = table_of(collection, 2000)
    with tempfile.TemporaryDirectory() as folder:
        ours_file, peer_file = Path(folder) / "scores.arrow", Path(folder) / "scores.json"
        scored.save(ours_file)
        ids, candidates = collection.document_ids, scored.candidates
        content = {}
        for i, query in enumerate(candidates.query_rows):
            documents, values, _ = scored.pool(i)
            names = (ids[d] for d in documents)
            content[collection.query_ids[query]] = dict(zip(names, values.tolist(), strict=True))
        peer_file.write_text(json.dumps(content))

        def ours():
            opened = rd.ScoreTable.load(ours_file, collection)
            return [opened.pool(i)[1].max() for i in range(len(opened))]

        def peer():
            opened = json.loads(peer_file.read_text())
            return [max(pool.values()) for pool in opened.values()]

        a, b, ratio = alternate(ours, peer, repeats)
        n = len(scored.scores)
        return [
            row("table", collection, n / a, n / b, ratio, "pairs/s"),
            row(
                "table on disk",
                collection,
                (ours_file.stat().st_size) / n,
                peer_file.stat().st_size / n,
                peer_file.stat().st_size / ours_file.stat().st_size,
                "bytes a pair",
            ),
        ]


def _peak(name: str, queries: int, grad_cache: bool, connection) -> None:
    """Peak resident memory (GB) of one gradient of ``queries`` groups of 128 documents."""
    collection = collection_of(name)
    scored = table_of(collection, queries, 50, 140)
    with tempfile.TemporaryDirectory() as folder:
        arguments = rd.training_arguments(folder, per_device_train_batch_size=queries, disable_tqdm=True)
        trainer = rd.DistillationTrainer(
            rd.load_student("minilm", max_length=128),
            scored,
            rd.RandomSampler(1, 127),
            rd.KLDivergence(),
            arguments,
            teacher_scale=1.0,
            grad_cache=grad_cache,
        )
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(queries)])
        trainer.compute_loss(trainer.model.train(), batch).backward()
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def memory(collection: rd.Collection, repeats: int, data: str) -> list[dict]:
    """Groups of 128 documents with GradCache, and directly, each in a process of its own."""
    context, peaks = multiprocessing.get_context("spawn"), {}
    for queries, grad_cache in ((4, True), (4, False), (32, True)):
        ours, theirs = context.Pipe()
        child = context.Process(target=_peak, args=(data, queries, grad_cache, theirs))
        child.start()
        peaks[queries, grad_cache] = ours.recv()
        child.join()
    print(f"  32 groups of 128 documents with grad_cache: {peaks[32, True]:.2f} GB")
    a, b = peaks[4, True], peaks[4, False]
    return [row("memory, 4 x 128, against no grad_cache", collection, a, b, b / a, "GB at the peak")]


def row(name: str, collection: rd.Collection, ours: float, peer: float, ratio: float, unit: str) -> dict:
    precision = "bf16" if has_bf16() else "float32"
    return {
        "row": name,
        "collection": collection.name,
        "precision": precision,
        "ours": round(ours, 3),
        "peer": round(peer, 3),
        "ratio": round(ratio, 2),
        "unit": unit,
    }


ROWS = {"step": step, "scoring": scoring, "table": table, "memory": memory}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--data", default="python_functions", help="or a folder in BEIR layout")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the table here")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    collection = collection_of(given.data)
    found = []
    for name in given.rows:
        print(f"{name}: {ROWS[name].__doc__.splitlines()[0]}")
        found += ROWS[name](collection, given.repeats, given.data)
    print(f"\n{torch.get_num_threads()} threads\n")
    print("| row | collection | precision | ours | peer | ratio | unit |\n|---|---|---|---|---|---|---|")
    for one in found:
        print("| " + " | ".join(str(value) for value in one.values()) + " |")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
