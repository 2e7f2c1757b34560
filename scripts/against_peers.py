"""The default recipe beside the losses of sentence-transformers, at equal budgets.

All begin with the same student, train on the same queries' pools and scores, and send equally many
pairs of a query and a document through the student; the learning rate of each, at each budget, is the best
of one grid on dev queries (seed 0), and each is then measured on the test queries with every seed. What was
measured is kept in --folder, one file a run: the same command goes on where it was interrupted.

    python scripts/against_peers.py --collections python_functions my_beir_folder --folder outputs/peers
"""

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.losses import (
    DistillKLDivLoss,
    MarginMSELoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from sentence_transformers.util import pairwise_cos_sim
from transformers import TrainerCallback, set_seed

import rankdistill as rd
from rankdistill.evaluation.significance import compare_runs, holm
from rankdistill.students import static_student
from rankdistill.training.groups import TrainingGroups

QUERIES, DOCUMENTS = 16, 8  # of a batch, of a group
SCALE = 20.0  # of cosines, the teacher's and every student's
RATES = {"static": (3e-4, 1e-3, 3e-3, 1e-2), "minilm_3layer": (2e-5, 5e-5, 1e-4, 2e-4)}
BUDGETS = {"static": (1000, 10_000, 100_000), "minilm_3layer": (1000, 10_000)}
POINTS = 10  # of a curve


@dataclass(frozen=True)
class Work:
    """What all methods share: a collection, the scores of its training queries, and where to measure."""

    collection: rd.Collection  # with the splits dev and test
    table: rd.ScoreTable
    teacher: rd.DenseTeacher  # whose scores the table has
    first: SentenceTransformer  # the student as it begins

    def student(self) -> SentenceTransformer:
        with tempfile.TemporaryDirectory() as folder:
            self.first.save_pretrained(folder)
            return SentenceTransformer(folder, device=str(self.first.device))

    def measure(self, student: SentenceTransformer, split: str) -> dict[str, float]:
        """nDCG@10 of each query of ``split``."""
        training = student.training
        with torch.no_grad():
            measured = rd.Evaluator(["nDCG@10"]).evaluate(student, self.collection, split)
        student.train(training)
        return dict(measured.per_query["nDCG@10"])


class Curve(TrainerCallback):
    """nDCG@10 of the test queries against the seconds of training, at some steps."""

    def __init__(self, work: Work, student: SentenceTransformer, pairs_a_step: int, steps: int):
        self.work, self.student, self.pairs_a_step = work, student, pairs_a_step
        self.at = set(np.linspace(0, steps, POINTS + 1).round().astype(int)[1:])
        self.points: list[tuple[int, float, float]] = []
        self.seconds = self.since = 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        self.since = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds += time.perf_counter() - self.since
        if state.global_step in self.at:
            value = float(np.mean(list(self.work.measure(self.student, "test").values())))
            self.points.append((state.global_step * self.pairs_a_step, self.seconds, value))


@dataclass(frozen=True)
class Setting:
    """One run: how many pairs, at which learning rate, with which seed; whether to draw its curve."""

    pairs: int
    rate: float
    seed: int
    curve: bool = False


def fields(setting: Setting, batch: int, pairs_a_query: int) -> dict:
    return {
        "per_device_train_batch_size": batch,
        "max_steps": max(setting.pairs // (batch * pairs_a_query), 1),
        "learning_rate": setting.rate,
        "seed": setting.seed,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,
        "bf16": False,
        "disable_tqdm": True,
        "logging_steps": 1000,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def ours(work: Work, setting: Setting, folder: str) -> list:
    """As +experiment=static: positives alone for four epochs, then a document of the pool beside each."""
    student, points, spent, seconds = work.student(), [], 0, 0.0
    first = min(setting.pairs, 4 * len(work.table))
    batch = QUERIES * DOCUMENTS
    stages = [
        (rd.RandomSampler(negatives=0), first, batch, 1),
        (rd.StratifiedSampler(negatives=1, jitter=True), setting.pairs - first, batch // 2, 2),
    ]
    for sampler, pairs, queries, size in stages:
        if not pairs:
            continue
        part = Setting(pairs, setting.rate, setting.seed)
        arguments = rd.training_arguments(folder, **fields(part, queries, size))
        inside = rd.StepTeacher(work.teacher)
        trainer = rd.DistillationTrainer(
            student, work.table, sampler, default_loss(), arguments, step_teacher=inside
        )
        curve = Curve(work, student, queries * size, arguments.max_steps if setting.curve else 0)
        trainer.add_callback(curve)
        trainer.train()
        points += [(spent + n, seconds + at, value) for n, at, value in curve.points]
        spent, seconds = spent + pairs, seconds + curve.seconds
    return [student, points, seconds]


def default_loss() -> torch.nn.Module:
    kl = rd.KLDivergence(8.0, 8.0, rescale=True, in_batch=True)
    return rd.WeightedSum({"kl": kl, "infonce": rd.InfoNCE(in_batch=True)}, {"kl": 1.0, "infonce": 1.0})


def scaled(queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    return SCALE * pairwise_cos_sim(queries, documents)


def rows(work: Work, sampler, seed: int) -> Iterator[dict]:
    """Groups without end, in an order drawn for each epoch, as sentence-transformers' columns."""
    groups, collection = TrainingGroups(work.table, sampler, seed=seed), work.table.collection
    for epoch in count():
        for i in np.random.default_rng((seed, epoch)).permutation(len(groups)):
            group = groups[epoch * len(groups) + int(i)]
            order = np.argsort(~group.positive, kind="stable")  # the positive first
            texts = [collection.documents[d] for d in group.document_rows[order]]
            columns = {"query": collection.queries[group.query_row]}
            columns |= {f"document_{n}": text for n, text in enumerate(texts)}
            yield columns | {"label": group.teacher[order].tolist()}


def peer(make_loss: Callable, sampler, labels: bool, batch: int = QUERIES) -> Callable:
    """A loss of sentence-transformers under its own Trainer, on the groups that ``sampler`` shows."""

    def train(work: Work, setting: Setting, folder: str) -> list:
        student = work.student()
        size = 1 + sampler.negatives
        given = fields(setting, batch, size)
        drawn = rows(work, sampler, setting.seed)
        full = (row for row in drawn if len(row["label"]) == size)
        dataset = Dataset.from_list([next(full) for _ in range(given["max_steps"] * batch)])
        if not labels:
            dataset = dataset.remove_columns("label")
        arguments = SentenceTransformerTrainingArguments(folder, **given)
        trainer = SentenceTransformerTrainer(student, arguments, dataset, loss=make_loss(student))
        curve = Curve(work, student, batch * size, given["max_steps"] if setting.curve else 0)
        trainer.add_callback(curve)
        trainer.train()
        return [student, curve.points, curve.seconds]

    return train


METHODS = {
    "rankdistill": ours,
    "MarginMSELoss": peer(lambda s: MarginMSELoss(s, similarity_fct=scaled), rd.RandomSampler(), True),
    "DistillKLDivLoss": peer(lambda s: DistillKLDivLoss(s, similarity_fct=scaled), rd.RandomSampler(), True),
    "DistillKLDivLoss, temperature 2": peer(
        lambda s: DistillKLDivLoss(s, similarity_fct=scaled, temperature=2.0), rd.RandomSampler(), True
    ),
    "MultipleNegativesRankingLoss": peer(
        MultipleNegativesRankingLoss, rd.RandomSampler(negatives=0), False, QUERIES * DOCUMENTS
    ),
    "MultipleNegativesRankingLoss, hard": peer(
        MultipleNegativesRankingLoss, rd.HardNegativeSampler(by="retriever"), False
    ),
}
OURS = next(iter(METHODS))


def work_of(name: str, kind: str) -> Work:
    """Pools of MiniLM's 100 best documents and 100 random ones, with its cosines as the teacher's scores."""
    collection = rd.python_functions() if name == "python_functions" else rd.read_beir(name, invalid="skip")
    minilm = rd.load_student("minilm")
    pools = rd.mine(collection, [rd.Dense(minilm, 100), rd.Random(100)], "train")
    teacher = rd.DenseTeacher("minilm", scale=SCALE)
    table = rd.score_candidates(teacher, pools)
    if "dev" not in collection.qrels:
        table, dev = rd.hold_out(table, 300)
        collection.qrels["dev"] = dev
    static = kind == "static"
    first = static_student("minilm", 256, max_length=128) if static else rd.load_student("minilm", 3, 128)
    return Work(collection, table, teacher, first)


def measured(work: Work, name: str, method: str, setting: Setting, folder: Path) -> dict:
    """The run's figures, of the file that an earlier one left or of a run made now."""
    words = method.replace(" ", "").replace(",", "-")
    path = folder / name / f"{words}-{setting.pairs}-{setting.rate:g}-{setting.seed}.json"
    if path.exists():
        return json.loads(path.read_text())
    set_seed(setting.seed)
    with tempfile.TemporaryDirectory() as checkpoints:
        student, curve, seconds = METHODS[method](work, setting, checkpoints)
    result = {"dev": float(np.mean(list(work.measure(student, "dev").values()))), "seconds": seconds}
    result |= {"test": work.measure(student, "test"), "curve": curve}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_text(json.dumps(result))
    path.with_suffix(".part").rename(path)
    mean = float(np.mean(list(result["test"].values())))
    print(
        f"{name}: {method}, {setting}: dev {result['dev']:.4f}, test {mean:.4f}, {seconds:.0f} s", flush=True
    )
    return result


def compared(work: Work, name: str, given: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row for each method and budget, and the points of the curves at the largest."""
    rows, points = [], []
    budgets, folder = given.budgets or BUDGETS[given.student], given.folder / given.student
    before = float(np.mean(list(work.measure(work.first, "test").values())))
    for pairs in budgets:
        values, seconds, rates = {}, {}, {}
        for method in given.methods:
            tried = {
                rate: measured(work, name, method, Setting(pairs, rate, 0), folder)["dev"]
                for rate in RATES[given.student]
            }
            rate = rates[method] = max(tried, key=tried.__getitem__)
            last = pairs == max(budgets)
            settings = [Setting(pairs, rate, seed, last and seed > 0) for seed in range(given.seeds)]
            runs = [measured(work, name, method, setting, folder) for setting in settings]
            queries = sorted(runs[0]["test"])
            values[method] = np.array([[run["test"][query] for query in queries] for run in runs])
            seconds[method] = float(np.median([run["seconds"] for run in runs]))
            for seed, run in enumerate(runs):
                points += [
                    (name, method, seed, *point)
                    for point in [[0, 0.0, before], *run["curve"]]
                    if run["curve"]
                ]
        for method, found in values.items():
            means = found.mean(axis=1)
            row = {"collection": name, "pairs": pairs, "method": method, "rate": rates[method]}
            row |= {"before": before, "nDCG@10": means.mean(), "deviation": means.std(ddof=1)}
            row |= {"seconds": seconds[method]}
            if method != OURS and OURS in values:
                tested = compare_runs(values[OURS] - found)
                row |= {
                    "difference": tested.difference,
                    "low": tested.low,
                    "high": tested.high,
                    "p": tested.p,
                }
            rows.append(row)
    return pd.DataFrame(rows), pd.DataFrame(
        points, columns=["collection", "method", "seed", "pairs", "seconds", "nDCG@10"]
    )


def draw(points: pd.DataFrame, path: Path) -> None:
    """Means over the seeds, and from the lowest to the highest, over pairs and over seconds of training."""
    names = list(points["collection"].unique())
    figure, axes = plt.subplots(
        len(names), 2, figsize=(11, 3.6 * len(names)), squeeze=False, layout="constrained"
    )
    for (name, part), (over_pairs, over_seconds) in zip(
        points.groupby("collection", sort=False), axes, strict=True
    ):
        for method, runs in part.groupby("method", sort=False):
            by_seed = runs.set_index(["seed", "pairs"])["nDCG@10"].unstack()
            seconds = runs.groupby("pairs")["seconds"].median()
            for axis, x in ((over_pairs, by_seed.columns), (over_seconds, seconds.loc[by_seed.columns])):
                (line,) = axis.plot(x, by_seed.mean(), marker=".", label=method)
                axis.fill_between(
                    x, by_seed.min(), by_seed.max(), color=line.get_color(), alpha=0.15, linewidth=0
                )
        over_pairs.set(title=name, xlabel="pairs through the student", ylabel="nDCG@10, test")
        over_seconds.set(title=name, xlabel="seconds of training")
    axes[0][0].legend(fontsize="small")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--collections", nargs="+", default=["python_functions"], help="or BEIR folders")
    parser.add_argument("--student", choices=list(RATES), default="static")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--budgets", nargs="+", type=int, help="pairs through the student")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, required=True, help="keeps each run's figures")
    given = parser.parse_args()
    logging.getLogger("rankdistill").setLevel(logging.WARNING)
    tables, curves = [], []
    for collection in given.collections:
        name = Path(collection).name
        table, points = compared(work_of(collection, given.student), name, given)
        tables.append(table)
        curves.append(points)
    table = pd.concat(tables, ignore_index=True)
    if "p" in table and table["p"].notna().any():
        known = table["p"].notna()
        table.loc[known, "p, Holm"] = holm(table.loc[known, "p"].to_numpy())
    table.to_csv(given.folder / f"{given.student}.csv", index=False)
    print(table.to_string(index=False, float_format="{:.4f}".format))
    if len(points := pd.concat(curves, ignore_index=True)):
        draw(points, given.folder / f"{given.student}.svg")


if __name__ == "__main__":
    main()
