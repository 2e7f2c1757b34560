"""Columns of the table that a loss reads: in the groups, in the batch, and refused where there are none."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import WordTeacher
from sentence_transformers import SentenceTransformer

from rankdistill.candidates import BM25, Random, mine
from rankdistill.commands.tables import check_reads
from rankdistill.errors import InputError
from rankdistill.losses import ApproxNDCG, KLDivergence, Loss, PairwisePreference, WeightedSum, approx_ndcg
from rankdistill.samplers import RandomSampler
from rankdistill.scores.preferences import Pairs
from rankdistill.teachers import EnsembleTeacher, score_candidates
from rankdistill.training import DistillationTrainer, TrainingGroups, training_arguments
from rankdistill.training.collator import further
from rankdistill.vocabulary import Batch, Outputs


class Length:
    """Scores by the length of the document."""

    fingerprint = "length"

    def score(self, queries, documents):
        return np.array([len(d) for d in documents], dtype=np.float32)


def ensemble(words, length, **more):
    teachers = {"words": WordTeacher(), "length": Length()}
    return EnsembleTeacher(teachers, {"words": words, "length": length}, **more)


@pytest.fixture
def rich(collection):
    """An ensemble's table, and pairs: of query i each candidate against the one i % 3 + 1 places after."""
    pools = mine(collection, {"words": BM25(8), "flat": BM25(6, b=0.0), "drawn": Random(6)})
    table = score_candidates(ensemble(1.0, 0.1), pools)
    sizes = np.diff(pools.offsets)
    pairs = [[(a, a + i % 3 + 1) for a in range(n - i % 3 - 1)] if i % 5 else [] for i, n in enumerate(sizes)]
    counts = [len(some) for some in pairs]
    first, second = np.array([pair for some in pairs for pair in some], np.int32).T.copy()
    starts = np.repeat(pools.offsets[:-1], counts)
    p = 1 / (1 + np.exp(4 * (table.scores[starts + second] - table.scores[starts + first])))
    found = Pairs(np.concatenate([[0], np.cumsum(counts)]), first, second, p.astype(np.float32))
    return dataclasses.replace(table, pairs=found)


class Reading(Loss):
    """Keeps the batches that it is shown."""

    def __init__(self, *columns):
        super().__init__()
        self.columns, self.seen = frozenset(columns), []

    def forward(self, student, teacher, batch):
        self.seen.append(batch)
        return (student.scores - teacher.scores).square().mean()


def trainer_of(table, loss, folder, student_folder, **more):
    arguments = training_arguments(
        str(folder), per_device_train_batch_size=4, max_steps=4, report_to=[], disable_tqdm=True, bf16=False
    )
    student = SentenceTransformer(str(student_folder), device="cpu")
    return DistillationTrainer(student, table, RandomSampler(1, 6), loss, arguments, **more)


NAMES = ["words", "length", "grades", "ranks.words", "ranks.flat", "pairs"]


def test_groups_and_batches_have_what_is_asked_for(rich):
    """Of every document its numbers by its row, of pairs those of two documents shown, padding 0."""
    table = rich.with_grades("train")
    groups = TrainingGroups(table, RandomSampler(1, 6), seed=3, columns=NAMES)
    plain = TrainingGroups(table, RandomSampler(1, 6), seed=3)
    some = [groups[i] for i in range(len(groups))]
    some[2] = dataclasses.replace(
        some[2],
        document_rows=some[2].document_rows[:4],
        targets={
            name: values[:4] if name[:4] != "pair" else values[:0] for name, values in some[2].targets.items()
        },
    )
    batch = further(some, (len(some), 7))
    assert sorted(batch) == sorted([*NAMES, "pair_p"]) and plain[0].targets == {}
    kinds = {
        "words": torch.float32,
        "grades": torch.int64,
        "ranks.flat": torch.int64,
        "pair_p": torch.float32,
    }
    assert {name: batch[name].dtype for name in kinds} == kinds
    expected_pairs = []
    for b, group in enumerate(some):
        assert np.array_equal(group.document_rows, plain[b].document_rows[: len(group.document_rows)])
        span = table.candidates.pool(b)
        place = {row: at for at, row in enumerate(table.candidates.document_rows[span].tolist())}
        shown = [place[row] for row in group.document_rows.tolist()]
        for name in NAMES[:-1]:
            values = table.column(name, span)[shown].tolist()
            assert batch[name][b].tolist() == values + [0] * (7 - len(values)), name
        if b != 2:
            expected_pairs += [
                (b, shown.index(i), shown.index(j), p)
                for i, j, p in zip(*(x.tolist() for x in table.pairs.of(b)), strict=True)
                if i in shown and j in shown
            ]
    found = [(*row, p) for row, p in zip(batch["pairs"].tolist(), batch["pair_p"].tolist(), strict=True)]
    assert found == expected_pairs and len(found) > 20


def test_the_trainer_gives_a_loss_its_columns_and_no_more(rich, tmp_path, student_folder):
    trainer = trainer_of(rich, loss := Reading("length", "pairs"), tmp_path, student_folder)
    trainer.train()
    assert loss.seen and all(set(b.targets) == {"scores", "length", "pairs", "pair_p"} for b in loss.seen)
    for batch in loss.seen:
        for row, documents, values in zip(
            batch.query_rows.tolist(), batch.index, batch.targets["length"], strict=True
        ):
            rows = batch.document_rows[documents].tolist()
            lengths = [len(rich.collection.documents[d]) for d in rows]
            assert values.tolist() == lengths and row < 16


@pytest.mark.parametrize("loss", [PairwisePreference(), ApproxNDCG(), ApproxNDCG(0.3)], ids=repr)
def test_losses_of_columns_are_learnt(rich, tmp_path, student_folder, loss):
    trainer = trainer_of(rich, loss, tmp_path, student_folder)
    arguments = trainer.args
    arguments.max_steps, arguments.learning_rate, arguments.logging_steps = 30, 1e-3, 1
    trainer.train()
    values = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5])


def test_grades_come_from_the_qrels_of_the_split(rich, tmp_path, student_folder):
    """q3's documents: its own has grade 1, and of the others one is judged 2, one 0."""
    qrels = {name: dict(found) for name, found in rich.collection.qrels.items()}
    others = rich.candidates.document_rows[rich.candidates.pool(3)].tolist()
    a, b = [f"d{row}" for row in others if row != 3][:2]
    qrels["train"]["q3"] = {"d3": 1, a: 2, b: 0}
    collection = dataclasses.replace(rich.collection, qrels=qrels)
    candidates = dataclasses.replace(rich.candidates, collection=collection)
    table = dataclasses.replace(rich, candidates=candidates, pairs=None)
    trainer = trainer_of(table, ApproxNDCG(), tmp_path, student_folder)
    grades = trainer.train_dataset.table.column("grades", candidates.pool(3))
    assert dict(zip(others, grades.tolist(), strict=True)) == {
        row: {3: 1, int(a[1:]): 2, int(b[1:]): 0}.get(row, -1) for row in others
    }
    batch = trainer.data_collator([trainer.train_dataset[3]])
    grades, mask = batch["targets"]["grades"], batch["mask"]
    student = torch.arange(7.0)[None]
    found = trainer.loss(Outputs(student), Outputs(student), Batch(**batch))
    torch.testing.assert_close(found, approx_ndcg(student, grades.float().clamp(min=0), mask, mask))


@pytest.mark.parametrize("sum_of", [False, True])
def test_a_column_that_the_table_lacks_is_refused(table, tmp_path, student_folder, sum_of):
    loss = PairwisePreference()
    if sum_of:
        loss = WeightedSum({"kl": KLDivergence(), "pairs": loss}, {"kl": 1.0, "pairs": 1.0})
    sources = ", ".join(f"ranks.{name}" for name in table.candidates.ranks)
    said = f"loss: {type(loss).__name__} reads pairs, which the score table does not have"
    expected = f"^{said}; it has scores, {sources}, grades$"
    with pytest.raises(InputError, match=expected):
        trainer_of(table, loss, tmp_path, student_folder)


def test_an_ensembles_table_has_its_members_scores(rich, collection):
    """As they gave them, and as other weights sum them: the scores of that ensemble, to the bit."""
    for name, teacher in {"words": WordTeacher(), "length": Length()}.items():
        assert np.array_equal(rich.columns[name], score_candidates(teacher, rich.candidates).scores)
    other = score_candidates(ensemble(0.3, 0.7), rich.candidates)
    assert np.array_equal(rich.weighted({"words": 0.3, "length": 0.7}).scores, other.scores)
    assert np.array_equal(rich.weighted({"words": 1.0, "length": 0.1}).scores, rich.scores)
    ranked = score_candidates(ensemble(0.5, 0.5, combine="reciprocal_rank"), rich.candidates)
    assert np.array_equal(ranked.columns["words"], rich.columns["words"])


def test_weights_are_a_choice_of_training(rich, tmp_path, student_folder):
    """Sampler and loss see the sum; nothing is scored."""
    trainer = trainer_of(rich, KLDivergence(), tmp_path, student_folder, teacher_weights={"length": 2.0})
    groups = trainer.train_dataset
    for i in range(len(groups)):
        texts = [rich.collection.documents[row] for row in groups[i].document_rows]
        assert groups[i].teacher.tolist() == [2.0 * len(text) for text in texts]
    with pytest.raises(InputError, match="no column dense; it has scores, words, length, pairs, ranks"):
        trainer_of(rich, KLDivergence(), tmp_path, student_folder, teacher_weights={"dense": 1.0})


@pytest.mark.parametrize("name", ["scores", "pairs", "a.b", ""])
def test_members_that_could_be_no_column_are_refused(name):
    with pytest.raises(InputError, match="a column must not be called"):
        EnsembleTeacher({name: WordTeacher()})


def test_what_the_table_will_lack_is_known_before_anything_is_scored():
    stage = SimpleNamespace(name="warmup", loss=ApproxNDCG(), scores={"teacher_weights": {"words": 1.0}})
    offered = ["scores", "words", "ranks.bm25"]
    check_reads([stage], offered)
    stage.scores = {"teacher_weights": {"dense": 1.0}}
    said = (
        "^warmup: scores.teacher_weights has dense, no column of the score table; it has scores, words, ranks"
    )
    with pytest.raises(InputError, match=said):
        check_reads([stage], offered)
    stage.loss, stage.scores = Reading("ranks.dense"), {"teacher_weights": None}
    with pytest.raises(
        InputError, match="^loss: Reading reads ranks.dense, which the score table does not have"
    ):
        check_reads([stage], offered)
