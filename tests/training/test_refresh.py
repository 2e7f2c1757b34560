"""Pools that the student's own index renews while it is trained."""

import shutil

import numpy as np
import pytest
import torch
from conftest import WordTeacher

from rankdistill.candidates.refresh import places_in, renewed
from rankdistill.commands.measuring import summed
from rankdistill.data.candidates import UNRANKED
from rankdistill.errors import InputError
from rankdistill.losses import KLDivergence, Loss
from rankdistill.samplers import HardNegativeSampler, RandomSampler
from rankdistill.scores import ScoreTable
from rankdistill.students import load_student
from rankdistill.students.cross_encoder import load_cross_encoder
from rankdistill.teachers import CrossEncoderTeacher, EnsembleTeacher, FileTeacher, NoTeacher
from rankdistill.training import (
    ClusteredOrder,
    DistillationTrainer,
    EpochSampler,
    Refresh,
    training_arguments,
)
from rankdistill.training.refresh import RoundSampler


def as_dicts(candidates):
    """Of each query, its documents: row -> (positive, source -> rank)."""
    pools = []
    for i in range(len(candidates)):
        span = candidates.pool(i)
        ranks = {name: values[span] for name, values in candidates.ranks.items()}
        pools.append(
            {
                int(row): (bool(candidates.positive[span][j]), {name: int(x[j]) for name, x in ranks.items()})
                for j, row in enumerate(candidates.document_rows[span])
            }
        )
    return pools


@pytest.mark.parametrize("keep", [True, False])
def test_pools_get_what_was_found_with_its_ranks(table, keep):
    """Against dicts: twenty random finds a query, some in the pool already, some -1."""
    rng, old = np.random.default_rng(0), table.candidates
    found = np.stack([rng.permutation(60)[:20] for _ in range(len(old))])
    found[3, 12:] = -1
    more = {int(old.query_rows[0]): [int(found[0, 5]), 59]}
    new = renewed(old, "refreshed", found, more, keep)
    expected = []
    for i, pool in enumerate(as_dicts(old)):
        nothing = dict.fromkeys([*(old.ranks if keep else ()), "refreshed"], UNRANKED)
        made = {
            row: (positive, nothing | (ranks if keep else {}))
            for row, (positive, ranks) in pool.items()
            if keep or positive
        }
        for row in more.get(int(old.query_rows[i]), ()):
            made[row] = (True, dict(made.get(row, (0, nothing))[1]))
        for rank, row in enumerate(found[i].tolist()):
            if row >= 0:
                positive, ranks = made.get(row, (False, nothing))
                made[row] = (positive, ranks | {"refreshed": rank})
        expected.append(dict(sorted(made.items())))
    assert as_dicts(new) == expected
    assert [list(pool) for pool in as_dicts(new)] == [list(pool) for pool in expected]  # rows ascend
    ScoreTable(new, np.zeros(len(new.document_rows)))  # which checks the pools
    where = places_in(new, old)
    for i in range(len(new)):
        for j, row in enumerate(new.document_rows[new.pool(i)]):
            there = np.flatnonzero(old.document_rows[old.pool(i)] == row)
            place = int(old.offsets[i] + there[0]) if len(there) else -1
            assert where[new.offsets[i] + j] == place


@pytest.mark.parametrize(("size", "rounds"), [(4, 5), (10, 4), (25, 3)])
def test_rounds_are_the_epochs_one_after_the_other(size, rounds):
    epochs, whole = EpochSampler(10, 7), []
    for epoch in range(9):
        epochs.set_epoch(epoch)
        whole += list(epochs)
    sampler, seen = RoundSampler(epochs, size), []
    for number in range(rounds):
        sampler.set_epoch(number)
        assert len(list(sampler)) == len(sampler) == size
        seen += list(sampler)
    assert seen == whole[: size * rounds]


def trainer_of(student_folder, table, folder, refresh, **fields):
    defaults = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "lr_scheduler_type": "constant",
        "bf16": False,
        "disable_tqdm": True,
        "save_strategy": "steps",
        "save_steps": 1,
    }
    order = fields.pop("order", None)
    return DistillationTrainer(
        fields.pop("student", None) or load_student(student_folder),
        table,
        HardNegativeSampler(1, 3),
        KLDivergence(),
        training_arguments(str(folder), **(defaults | fields)),
        refresh=refresh,
        order=order,
    )


def test_a_round_shows_what_the_student_of_its_first_step_finds(student_folder, table, tmp_path):
    """Five best documents by its own embeddings then, scored by the teacher, and the table's others."""
    trainer = trainer_of(student_folder, table, tmp_path, Refresh(2, 5, teacher=WordTeacher()), max_steps=5)
    seen = []
    begin = trainer.rounds.begin

    def spied(step):
        embed = trainer.student.eval()
        queries = embed.encode_query(table.collection.queries, normalize_embeddings=True)
        documents = embed.encode_document(table.collection.documents, normalize_embeddings=True)
        begin(step)
        seen.append((step, queries @ documents.T, trainer.train_dataset.table))

    trainer.rounds.begin = spied
    trainer.train()
    assert [step for step, *_ in seen] == [0, 2, 4]
    assert seen[0][2] is trainer.rounds.first
    teacher, collection = WordTeacher(), table.collection
    for _, similarity, shown in seen[1:]:
        for i, query in enumerate(shown.candidates.query_rows):
            rows, scores, positive = shown.pool(i)
            best = np.argsort(-similarity[query], kind="stable")[:5]
            span = shown.candidates.pool(i)
            ranks = shown.candidates.ranks["refreshed"][span]
            assert rows[np.argsort(ranks)[:5]].tolist() == best.tolist()
            assert set(rows) == set(best) | set(table.pool(i)[0])
            texts = [collection.documents[row] for row in rows]
            assert scores == pytest.approx(teacher.score([collection.queries[query]] * len(rows), texts))
            assert rows[positive].tolist() == table.pool(i)[0][table.pool(i)[2]].tolist()
    assert not np.array_equal(seen[1][2].candidates.document_rows, seen[2][2].candidates.document_rows)
    epochs = [row["epoch"] for row in trainer.state.log_history]
    assert epochs[-1] == 5 * 8 / 16  # of queries, not of rounds


def test_pairs_that_are_cut_for_a_refresh_are_counted(
    student_folder, cross_encoder_folder, table, tmp_path, caplog
):
    """Each round's new ones, by their words: a token each, and three special ones."""
    teachers = {
        "a": CrossEncoderTeacher(cross_encoder_folder, 20),
        "b": CrossEncoderTeacher(cross_encoder_folder),
    }
    refresh = Refresh(2, 5, teacher=EnsembleTeacher(teachers, {"a": 1.0, "b": 1.0}))
    trainer = trainer_of(student_folder, table, tmp_path, refresh, max_steps=5)
    shown, begin = [], trainer.rounds.begin

    def spied(step):
        cut = begin(step)
        shown.append(trainer.train_dataset.table.candidates)
        return cut

    trainer.rounds.begin = spied
    with caplog.at_level("INFO"):
        trainer.train()
    rows = [row for row in trainer.state.log_history if "cut" in row]
    assert [row["step"] for row in rows] == [2, 4]
    collection = table.collection
    for i, row in enumerate(rows):
        known = set(pairs_of(shown[0])) | set(pairs_of(shown[i]))
        new = [pair for pair in pairs_of(shown[i + 1]) if pair not in known]
        words = [len(f"{collection.queries[q]} {collection.documents[d]}".split()) for q, d in new]
        longer = sum(n + 3 > 20 for n in words)
        assert 0 < longer < len(new)
        assert row["cut"]["refreshed pairs of a"] == {"longer": longer, "of": len(new), "tokens": 20}
        assert row["cut"]["refreshed pairs of b"]["longer"] == 0
        assert f"read by the teacher: {longer} of {len(new)} refreshed pairs of a (" in caplog.text
    assert "are longer than 20 tokens, query and document together, and are cut" in caplog.text
    assert summed([row["cut"] for row in rows])["refreshed pairs of a"] == {
        "longer": sum(row["cut"]["refreshed pairs of a"]["longer"] for row in rows),
        "of": sum(row["cut"]["refreshed pairs of a"]["of"] for row in rows),
        "tokens": 20,
    }


def pairs_of(candidates):
    owners = np.repeat(candidates.query_rows, np.diff(candidates.offsets))
    return list(zip(owners.tolist(), candidates.document_rows.tolist(), strict=True))


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_it_resumes_in_the_middle_of_a_round_to_the_same_bytes(student_folder, table, tmp_path, step):
    def begin(folder):
        order = ClusteredOrder(load_student(student_folder), 3)
        return trainer_of(
            student_folder, table, folder, Refresh(2, 5, teacher=WordTeacher()), max_steps=6, order=order
        )

    whole = begin(tmp_path / "whole")
    whole.train()
    shutil.copytree(tmp_path / "whole" / f"checkpoint-{step}", tmp_path / "parts" / f"checkpoint-{step}")
    for number in range(1, step // 2 + 1):
        name = f"round-{number}.arrow"
        shutil.copy(tmp_path / "whole" / name, tmp_path / "parts" / name)
    resumed = begin(tmp_path / "parts")
    resumed.train(resume_from_checkpoint=str(tmp_path / "parts" / f"checkpoint-{step}"))
    for (name, one), other in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_what_no_checkpoint_needs_is_dropped(student_folder, table, tmp_path):
    refresh = Refresh(1, 5, teacher=WordTeacher())
    trainer_of(student_folder, table, tmp_path, refresh, max_steps=6, save_total_limit=1).train()
    assert {file.name for file in tmp_path.glob("round-*")} == {"round-4.arrow", "round-5.arrow"}


def test_rounds_that_are_gone_end_in_one_line(student_folder, table, tmp_path):
    refresh = Refresh(2, 5, teacher=WordTeacher())
    trainer_of(student_folder, table, tmp_path, refresh, max_steps=3).train()
    (tmp_path / "round-1.arrow").unlink()
    with pytest.raises(InputError, match=r"round-1.arrow: the pools of round 1 are gone; delete"):
        trainer_of(student_folder, table, tmp_path, refresh, max_steps=4).train(
            str(tmp_path / "checkpoint-3")
        )


def test_labels_alone_need_no_teacher(student_folder, table, tmp_path):
    labels = ScoreTable(table.candidates, NoTeacher().score_pools(table.candidates), NoTeacher.fingerprint)
    refresh = Refresh(1, 5, keep=False, teacher=NoTeacher())
    trainer = trainer_of(student_folder, labels, tmp_path, refresh, max_steps=2)
    trainer.train()
    shown = trainer.train_dataset.table
    assert np.array_equal(shown.scores, shown.candidates.positive)
    assert max(np.diff(shown.candidates.offsets)) <= 6  # five, and the positive


@pytest.mark.parametrize(
    ("refresh", "fields", "message"),
    [
        ({"teacher": None}, {}, "refresh.teacher: who scores documents that are found then"),
        ({}, {"save_strategy": "epoch"}, "trainer.save_strategy=epoch: with refresh"),
        ({"steps": 0}, {}, "refresh.steps=0"),
        ({"keep": "no"}, {}, "refresh.keep='no': it must be true or false"),
        (
            {"teacher": FileTeacher(__file__, format="csv")},
            {},
            "FileTeacher cannot score documents that are new",
        ),
        (
            {"teacher": EnsembleTeacher({"a": WordTeacher()}, combine="minmax")},
            {},
            r"EnsembleTeacher cannot score pairs by themselves \(teacher: these scores depend",
        ),
    ],
)
def test_what_cannot_be_renewed_is_refused(student_folder, table, tmp_path, refresh, fields, message):
    with pytest.raises(InputError, match=message):
        trainer_of(
            student_folder, table, tmp_path, Refresh(**({"teacher": WordTeacher()} | refresh)), **fields
        )


def test_a_cross_encoder_searches_nothing(student_folder, cross_encoder_folder, table, tmp_path):
    student = load_cross_encoder(cross_encoder_folder, max_length=64)
    with pytest.raises(InputError, match="refresh: CrossEncoder searches nothing"):
        trainer_of(student_folder, table, tmp_path, Refresh(teacher=WordTeacher()), student=student)


def test_grades_are_those_of_new_candidates_too(student_folder, table, tmp_path):
    class Grades(Loss):
        columns = frozenset({"grades"})

        def forward(self, student, teacher, batch):
            assert (batch.targets["grades"][:, 0] == 1).all()
            seen.append(batch.targets["grades"][batch.mask & ~batch.positive])
            return student.scores.mean()

    seen = []
    arguments = training_arguments(str(tmp_path), max_steps=3, bf16=False, disable_tqdm=True)
    trainer = DistillationTrainer(
        load_student(student_folder),
        table,
        RandomSampler(1, 5),
        Grades(),
        arguments,
        refresh=Refresh(1, 5, keep=False, teacher=WordTeacher()),
    )
    trainer.train()
    assert len(seen) > 3 and all((grades == -1).all() for grades in seen)
    Grades.columns = frozenset({"ranks.bm25"})
    with pytest.raises(
        InputError, match="refresh: the loss reads ranks.bm25, which new candidates do not have"
    ):
        DistillationTrainer(
            load_student(student_folder),
            table,
            RandomSampler(1, 5),
            Grades(),
            arguments,
            refresh=Refresh(1, 5, teacher=WordTeacher()),
        )
