"""rankdistill beside sentence-transformers on the same work: one table of ratios.

Each row runs both in one process, A B A B, and reports the median of the repeats' ratios. Same texts,
ids, order, maximum length and precision on both sides, dropout 0, loss equal at the first step. The peer
runs as its documentation has it and, where that helps it, with its best batch size too.

    python scripts/bench.py --rows step scoring --json bench.json
"""

import argparse
import copy
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
from sentence_transformers import CrossEncoder, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from sentence_transformers.util import cos_sim, pairwise_cos_sim
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import TrainerCallback

import rankdistill as rd
from rankdistill.retrieval import embed_documents, search
from rankdistill.runtime.hardware import autocast, has_bf16, kept_memory
from rankdistill.students import static_student
from rankdistill.students.dense import fast_attention
from rankdistill.students.fast.packing import packed_attention
from rankdistill.students.fast.pair_tokens import PairTokenizer
from rankdistill.teachers.demo import merged
from rankdistill.training.groups import TrainingGroups
from rankdistill.training.orders import EpochSampler

STEPS, STATIC_STEPS, SEED = 8, 100, 0
QUALITY_STEPS, EVERY = 64, 16


def collection_of(name: str) -> rd.Collection:
    return rd.python_functions() if name == "python_functions" else rd.read_beir(name, invalid="skip")


def minilm(max_length: int):
    """MiniLM reading ``max_length`` tokens: it has positions for 512, though its own setting is 256."""
    student = rd.load_student("minilm")
    student.max_seq_length = max_length
    return student


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


class Clock(TrainerCallback):
    """Seconds a step, from the third on: the first ones meet shapes that were never computed."""

    def __init__(self):
        self.ends = []

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        return (self.ends[-1] - self.ends[1]) / (len(self.ends) - 2)


def trained(trainer) -> tuple[float, float]:
    """The loss of the first step, and seconds a step."""
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    return trainer.state.log_history[0]["loss"], clock.seconds


def trainers(
    table: rd.ScoreTable, given: argparse.Namespace, folder: str, steps: int, scale: float, make=minilm
):
    """Two functions, each a new Trainer of new weights: ours, and the peer on the same groups and order.

    ``make`` gives these weights; it takes a length in tokens.
    """
    fields = {
        "per_device_train_batch_size": given.batch,
        "max_steps": steps,
        "seed": SEED,
        "disable_tqdm": True,
        "bf16": given.precision == "bf16",
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
    }

    def ours():
        student = make(given.max_length)
        arguments = rd.training_arguments(folder, **fields)
        return rd.DistillationTrainer(
            student, table, rd.RandomSampler(), rd.KLDivergence(), arguments, teacher_scale=scale
        )

    groups, collection = TrainingGroups(table, rd.RandomSampler(), seed=SEED), table.collection
    names = ["query", *(f"document_{i}" for i in range(8))]
    rows = []
    for group in (groups[i] for i in EpochSampler(len(groups), SEED)):
        texts = [collection.queries[group.query_row], *(collection.documents[d] for d in group.document_rows)]
        rows.append(dict(zip(names, texts, strict=True)) | {"label": (scale * group.teacher).tolist()})
    dataset = Dataset.from_list(rows)

    def in_order(dataset, batch_size, drop_last, **_):
        return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)

    peers_own = {"learning_rate": 5e-5, "lr_scheduler_type": "linear", "warmup_steps": 0.1}  # as ours

    def peer():
        model = make(given.max_length)
        return SentenceTransformerTrainer(
            model,
            SentenceTransformerTrainingArguments(folder, batch_sampler=in_order, **fields, **peers_own),
            dataset,
            loss=DistillKLDivLoss(model, similarity_fct=lambda a, b: 20 * pairwise_cos_sim(a, b)),
        )

    return ours, peer


def step(collection: rd.Collection, given: argparse.Namespace) -> list[dict]:
    """Training steps of --batch queries x 8 documents, KL, both through their own Trainer."""
    table = table_of(collection, STEPS * given.batch)
    groups = TrainingGroups(table, rd.RandomSampler(), seed=SEED)
    losses, tokens = {}, []
    with tempfile.TemporaryDirectory() as folder:
        make_ours, make_peer = trainers(table, given, folder, STEPS, 1.0)

        def ours():
            trainer = make_ours()
            losses["ours"], seconds = trained(trainer)
            logged = [row["tokens_per_second"] for row in trainer.state.log_history if "loss" in row]
            tokens.append((float(np.median(logged[2:])), bare(given, table, groups)))
            return seconds

        def peer():
            losses["peer"], seconds = trained(make_peer())
            return seconds

        a, b, ratio = alternate(ours, peer, given.repeats)
    print(f"  loss at step 1: ours {losses['ours']}, sentence-transformers {losses['peer']}")
    sampling = timed(lambda: [groups[i] for i in range(len(groups))]) / STEPS
    found, most = np.array(tokens[1:]).T
    full = float(np.median(found)), float(np.median(most)), float(np.median(found / most))
    rows = [
        row(f"step, {given.batch} x 8, max {given.max_length}", collection, 1 / a, 1 / b, ratio, "steps/s"),
        row("step against the bare model, full batch", collection, *full, "tokens/s"),
        row("sampling within a step", collection, 1000 * sampling, 1000 * a, a / sampling, "ms"),
    ]
    return [one | {"precision": given.precision} for one in rows]


class Progress(TrainerCallback):
    """nDCG@10 after every ``EVERY`` steps, and the seconds of training until then."""

    def __init__(self, student, collection: rd.Collection):
        self.student, self.collection = student, collection
        self.points, self.seconds = [(0.0, self.measured())], 0.0

    def measured(self) -> float:
        training = self.student.training
        with torch.no_grad():
            found = rd.Evaluator(["nDCG@10"]).evaluate(self.student, self.collection).mean["nDCG@10"]
        self.student.train(training)
        return found

    def on_step_begin(self, args, state, control, **kwargs):
        self.since = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds += time.perf_counter() - self.since
        if state.global_step % EVERY == 0:
            self.points.append((self.seconds, self.measured()))

    def until(self, target: float) -> float:
        """Seconds until ``target`` was reached, on the line between the measurements around it."""
        seconds, reached = np.array(self.points).T
        i = int(np.argmax(reached >= target))
        return float(np.interp(target, reached[i - 1 : i + 1], seconds[i - 1 : i + 1]))


def static(collection: rd.Collection, given: argparse.Namespace) -> list[dict]:
    """Steps of a static student, --batch queries x 8 documents, KL, both through their own Trainer."""
    table = table_of(collection, STATIC_STEPS * given.batch)
    with tempfile.TemporaryDirectory() as folder:
        first = static_student("minilm", max_length=given.max_length)

        def make(_: int):
            return copy.deepcopy(first)

        ours, peer = trainers(table, given, folder, STATIC_STEPS, 1.0, make)
        a, b, ratio = alternate(lambda: trained(ours())[1], lambda: trained(peer())[1], given.repeats)
    return [row("static student", collection, 1 / a, 1 / b, ratio, "steps/s")]


def quality(collection: rd.Collection, given: argparse.Namespace) -> list[dict]:
    """Seconds of training until nDCG@10 has risen by 9/10 of what the lesser of both gains; one run each."""
    pools = rd.mine(collection, [rd.BM25(20), rd.Random(10)], "train", QUALITY_STEPS * given.batch)
    table = rd.score_candidates(rd.demo_teacher(), pools)
    part, found = with_few_documents(collection), []
    with tempfile.TemporaryDirectory() as folder:
        for make in trainers(table, given, folder, QUALITY_STEPS, 0.5):
            trainer = make()
            student = getattr(trainer, "student", trainer.model)
            found.append(Progress(student, part))
            trainer.add_callback(found[-1])
            trainer.train()
    for name, progress in zip(("ours", "peer"), found, strict=True):
        print(f"  {name}: " + ", ".join(f"{value:.4f} ({at:.0f} s)" for at, value in progress.points))
    before = found[0].points[0][1]
    target = before + 0.9 * (min(max(value for _, value in one.points) for one in found) - before)
    a, b = (one.until(target) for one in found)
    return [row(f"time to nDCG@10 of {target:.3f}", collection, a, b, b / a, "s")]


def with_few_documents(collection: rd.Collection, queries: int = 200, others: int = 800) -> rd.Collection:
    """``queries`` of the test split, their relevant documents and the first ``others``."""
    rows = collection.query_rows("test", queries)
    positives = collection.positive_rows("test")
    kept = sorted({d for q in rows.tolist() for d in positives[q]} | set(range(others)))
    ids = [collection.document_ids[d] for d in kept]
    names = [collection.query_ids[q] for q in rows]
    judged = collection.judged("test")
    return rd.Collection(
        f"{collection.name}, part",
        ids,
        [collection.documents[d] for d in kept],
        names,
        [collection.queries[q] for q in rows],
        {"test": {q: {d: grade for d, grade in judged[q].items() if d in set(ids)} for q in names}},
    )


def timed(run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def bare(given: argparse.Namespace, table: rd.ScoreTable, groups: TrainingGroups) -> float:
    """Tokens/s of the model alone, forward and backward: texts of one length, no padding, no loss.

    The length is the mean over the tokens of their text's: as much attention a token as in the step.
    Memory is kept and attention is plain on a CPU, as in the step: a limit, not what transformers does.
    """
    student = minilm(given.max_length).train()
    texts = [table.collection.documents[d] for i in range(given.batch) for d in groups[i].document_rows]
    lengths = student.preprocess(texts)["attention_mask"].sum(dim=1).float()
    width = -(-int(lengths.square().sum() / lengths.sum()) // 16) * 16
    ids = torch.randint(1000, 20000, (len(texts), width), device=student.device)
    features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def once():
        with torch.autocast(student.device.type, torch.bfloat16, enabled=given.precision == "bf16"):
            embedded = student(dict(features))["sentence_embedding"]
        embedded.sum().backward()
        student.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    with kept_memory(), fast_attention(student.transformers_model, student.device):
        return ids.numel() / np.median([timed(once) for _ in range(6)][2:])


def attention(collection: rd.Collection, given: argparse.Namespace) -> list[dict]:
    """A layer's packed attention, forward and backward: a step's texts, and as many tokens in like texts."""
    table = table_of(collection, given.batch)
    groups, tokenise = (
        TrainingGroups(table, rd.RandomSampler(), seed=SEED),
        minilm(given.max_length).preprocess,
    )
    texts = [collection.documents[d] for i in range(given.batch) for d in groups[i].document_rows]
    lengths = tokenise(texts)["attention_mask"].sum(dim=1).sort(descending=True).values
    width = int(lengths.square().sum() / lengths.sum())  # as in ``bare``
    alike = torch.full((round(int(lengths.sum()) / width),), width)

    def turn(lengths: torch.Tensor):
        bounds = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()
        dtype = torch.bfloat16 if given.precision == "bf16" else torch.float32
        rows = [torch.randn(1, 12, int(bounds[-1]), 32, dtype=dtype).requires_grad_() for _ in range(3)]

        def layers():
            for _ in range(24):
                packed_attention(None, *rows, None, cu_seq_lens_q=bounds)[0].sum().backward()

        return layers

    with kept_memory():
        a, b, ratio = alternate(turn(lengths), turn(alike), given.repeats)
    found, most = (24 * int(part.sum()) for part in (lengths, alike))
    name = f"attention of a step's texts, against texts of {width} tokens"
    return [row(name, collection, found / a, most / b, ratio * found / most, "tokens/s")]


def encoding(collection: rd.Collection, given: argparse.Namespace) -> list[dict]:
    """512 documents; the peer in the same precision with batches of 64, and by its defaults."""
    model = minilm(given.max_length)
    texts, found = collection.documents[:512], {}

    def ours():
        found["ours"] = embed_documents(model, texts, progress=False)

    def same():
        with autocast(model.device):
            found["peer"] = model.encode_document(list(texts), batch_size=64)

    def default():
        found["default"] = model.encode_document(list(texts))

    rows = []
    for name, peer in (("encoding", same), ("encoding, the peer's default", default)):
        a, b, ratio = alternate(ours, peer, given.repeats)
        rows.append(row(name, collection, len(texts) / a, len(texts) / b, ratio, "documents/s"))
    apart = 1 - (found["ours"] * found["default"]).sum(axis=1).min()
    print(f"  largest cosine distance to the peer's float32 embeddings: {apart:.2g}")
    return rows


class Given(InformationRetrievalEvaluator):
    """Gets embeddings instead of computing them: what remains is search and measures."""

    def embed_inputs(self, model, sentences, encode_fn_name=None, **kwargs):
        return self.embedded["query" if sentences is self.queries else "document"][: len(sentences)]


def evaluation(collection: rd.Collection, given: argparse.Namespace) -> list[dict]:
    """Search and measures of 2,000 queries with given embeddings, in chunks of the whole corpus."""
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(collection.queries))[:2000]
    documents, queries = (
        rng.normal(size=(n, 384)).astype(np.float32) for n in (len(collection.documents), len(rows))
    )
    for embeddings in (documents, queries):
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    ids, names = collection.document_ids, [collection.query_ids[r] for r in rows]
    relevant = {name: {ids[i % len(ids)]} for i, name in enumerate(names)}
    qrels = {name: dict.fromkeys(found, 1) for name, found in relevant.items()}
    part = rd.Collection(
        "part", ids, collection.documents, names, [collection.queries[r] for r in rows], {"test": qrels}
    )
    evaluator = rd.Evaluator()

    def ours():
        run = rd.Run.from_rows(part, np.arange(len(rows)), *search(documents, queries, 100), "x")
        return evaluator.measure(run, part, "test").mean and None

    texts = dict(zip(names, part.queries, strict=True)), dict(zip(ids, collection.documents, strict=True))
    model = rd.load_student("minilm")
    same = {"mrr_at_k": [10], "ndcg_at_k": [10], "precision_recall_at_k": [100], "map_at_k": [100]}
    same |= {"accuracy_at_k": [10], "corpus_chunk_size": len(ids)}
    found = []
    for name, settings in (("evaluation", same), ("evaluation, the peer's default", {})):
        other = Given(
            *texts, relevant, score_functions={"cosine": cos_sim}, show_progress_bar=False, **settings
        )
        other.embedded = {"query": torch.from_numpy(queries), "document": torch.from_numpy(documents)}

        def peer(other=other):
            other.compute_metrices(model)

        a, b, ratio = alternate(ours, peer, given.repeats)
        found.append(row(name, collection, len(rows) / a, len(rows) / b, ratio, "queries/s"))
    return found


def scoring(collection: rd.Collection, given: argparse.Namespace) -> list[dict]:
    """A cross-encoder's scores of 512 pairs; the peer in batches of 32, of 16, and by its defaults."""
    pools = rd.mine(collection, [rd.BM25(32)], "train", 16)
    queries, documents = zip(*list(pools.pairs(0, len(pools.document_rows)))[:512], strict=True)
    teacher = rd.CrossEncoderTeacher(merged("cross_encoder"), given.max_length)
    pairs, found = list(zip(queries, documents, strict=True)), {}

    def ours():
        teacher.scorer.tokenise = PairTokenizer(teacher.model)  # that keeps no tokens of an earlier turn
        found["ours"] = teacher.score(queries, documents)

    rows = []
    default = CrossEncoder(merged("cross_encoder"), num_labels=1, max_length=given.max_length)  # float32
    for name, model, size in (
        ("scoring, batch 32", teacher.model, 32),
        ("scoring, batch 16", teacher.model, 16),
        ("scoring, the peer's default", default, 32),
    ):

        def peer(model=model, size=size):
            found["peer"] = model.predict(
                pairs, batch_size=size, activation_fn=torch.nn.Identity(), show_progress_bar=False
            )

        a, b, ratio = alternate(ours, peer, given.repeats)
        n = len(pairs)
        rows.append(row(name, collection, n / a, n / b, ratio, "pairs/s"))
    apart = np.abs(found["ours"] - found["peer"]).max()
    print(f"  largest difference of two scores: {apart:.3g}, their deviation {found['ours'].std():.3g}")
    return rows


def table(collection: rd.Collection, given: argparse.Namespace) -> list[dict]:
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

        a, b, ratio = alternate(ours, peer, given.repeats)
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


def _large_groups(given: argparse.Namespace, queries: int, grad_cache: bool) -> None:
    """One gradient of ``queries`` groups of 128 documents."""
    scored = table_of(collection_of(given.data), queries, 50, 140)
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


def _steps(given: argparse.Namespace, side: int) -> None:
    """The steps of the row ``step``, ours (0) or the peer's (1)."""
    table = table_of(collection_of(given.data), STEPS * given.batch)
    with tempfile.TemporaryDirectory() as folder:
        trainers(table, given, folder, STEPS, 1.0)[side]().train()


def _child(work, given: argparse.Namespace, rest: tuple, connection) -> None:
    logging.disable(logging.WARNING)
    work(given, *rest)
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def peak(work, given: argparse.Namespace, *rest) -> float:
    """Peak resident memory (GB) of ``work(given, *rest)`` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_child, args=(work, given, rest, theirs))
    child.start()
    theirs.close()  # a child that fails ends the wait
    gigabytes = ours.recv()
    child.join()
    return gigabytes


def memory(collection: rd.Collection, given: argparse.Namespace) -> list[dict]:
    """Peak resident memory: of the row ``step``, the median of processes; of groups of 128 with GradCache."""
    peaks = [[peak(_steps, given, side) for side in (0, 1)] for _ in range(given.repeats)]
    a, b = np.median(peaks, axis=0).tolist()
    cached, direct, many = (peak(_large_groups, given, *of) for of in ((4, True), (4, False), (32, True)))
    print(f"  32 groups of 128 documents with grad_cache: {many:.2f} GB")
    unit = "GB at the peak"
    return [
        row(f"memory of step, {given.batch} x 8, max {given.max_length}", collection, a, b, b / a, unit),
        row("memory, 4 x 128, against no grad_cache", collection, cached, direct, direct / cached, unit),
    ]


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


ROWS = {
    "step": step,
    "static": static,
    "attention": attention,
    "quality": quality,
    "scoring": scoring,
    "encoding": encoding,
    "evaluation": evaluation,
    "table": table,
    "memory": memory,
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--data", default="python_functions", help="or a folder in BEIR layout")
    parser.add_argument("--batch", type=int, default=4, help="queries of a step, with 8 documents each")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument(
        "--precision",
        choices=["bf16", "float32"],
        default="bf16" if has_bf16() else "float32",
        help="of both sides' training; scoring and encoding take what the machine has",
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the table here")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    collection = collection_of(given.data)
    found = []
    for name in given.rows:
        print(f"{name}: {ROWS[name].__doc__.splitlines()[0]}")
        found += ROWS[name](collection, given)
    print(f"\n{torch.get_num_threads()} threads\n")
    print("| row | collection | precision | ours | peer | ratio | unit |\n|---|---|---|---|---|---|---|")
    for one in found:
        print("| " + " | ".join(str(value) for value in one.values()) + " |")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
