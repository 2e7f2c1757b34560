import copy
import dataclasses
import json
import logging

import numpy as np
import pytest
import torch
from conftest import WordTeacher
from torch import nn

from rankdistill.candidates import Random, mine
from rankdistill.data import Candidates
from rankdistill.errors import InputError
from rankdistill.losses import InfoNCE, KLDivergence, MarginMSE, WeightedSum
from rankdistill.samplers import RandomSampler, StratifiedSampler
from rankdistill.scores import ScoreTable, read_scores
from rankdistill.students import dense, load_student
from rankdistill.students.dense import DenseEncoder, token_embedding
from rankdistill.students.load import load_weights_from, set_dropout
from rankdistill.teachers import score_candidates
from rankdistill.training import (
    DistillationTrainer,
    GroupCollator,
    TrainingGroups,
    training_arguments,
)
from rankdistill.training.collator import Preparer, in_batch_negatives
from rankdistill.training.groups import Group


def arguments(folder, **fields):
    defaults = {"per_device_train_batch_size": 4, "learning_rate": 1e-3, "bf16": False, "disable_tqdm": True}
    return training_arguments(str(folder), **(defaults | fields))


def trainer_of(student_folder, table, folder, loss=None, sampler=None, student=None, **more):
    fields = {k: more.pop(k) for k in list(more) if k in arguments(folder).__dict__}
    return DistillationTrainer(
        student or load_student(student_folder),
        table,
        sampler or RandomSampler(1, 3),
        loss or KLDivergence(),
        arguments(folder, **fields),
        **more,
    )


def collated(student_folder, collection, groups, chunk_tokens=None):
    ranker = DenseEncoder(load_student(student_folder), True, 20.0)
    return GroupCollator(collection, Preparer(ranker, collection, chunk_tokens))(groups)


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("chunk_tokens", [1, 40, 100_000])
@pytest.mark.parametrize("loss", [KLDivergence(), MarginMSE(), InfoNCE(in_batch=True)])
def test_chunks_change_neither_loss_nor_gradient(student_folder, table, tmp_path, chunk_tokens, loss):
    def step(tokens):
        trainer = trainer_of(student_folder, table, tmp_path, loss, chunk_tokens=tokens)
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(6)])
        trainer.model.train()
        value = trainer.compute_loss(trainer.model, batch)
        value.backward()
        return value.item(), [p.grad for p in trainer.model.parameters() if p.grad is not None]

    value, gradients = step(chunk_tokens)
    expected, expected_gradients = step(10**9)
    assert value == pytest.approx(expected, abs=1e-5)
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("padding", ["none", "token 0"])
def test_looking_up_a_batch_s_own_tokens_changes_neither_loss_nor_gradient(
    student_folder, table, tmp_path, monkeypatch, padding
):
    """Against the whole embedding; a padding token's row gets no gradient, wherever it is."""

    def step():
        trainer = trainer_of(student_folder, table, tmp_path, InfoNCE(in_batch=True), chunk_tokens=40)
        own = trainer.student.transformers_model.get_input_embeddings()
        own.padding_idx = None if padding == "none" else 3  # a word's, so that it has a gradient to lose
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(6)])
        value = trainer.compute_loss(trainer.model.train(), batch)
        value.backward()
        assert "forward" not in vars(own)
        return value.item(), {name: p.grad for name, p in trainer.student.named_parameters()}

    value, gradients = step()
    monkeypatch.setattr(dense, "token_embedding", lambda encoder: None)
    expected, expected_gradients = step()
    assert value == expected
    for name, wanted in expected_gradients.items():
        torch.testing.assert_close(gradients[name], wanted, atol=0, rtol=0)
    (words,) = (x for name, x in gradients.items() if "word_embeddings" in name)
    assert words.any() and words[3].any() == (padding == "none")


def test_embeddings_that_do_or_share_more_are_left_whole(student_folder):
    student = load_student(student_folder)
    model = student.transformers_model
    own = model.get_input_embeddings()
    assert token_embedding(student) is own
    model.head = nn.Linear(*reversed(own.weight.shape), bias=False)
    model.head.weight = own.weight
    assert token_embedding(student) is None
    del model.head
    own.scale_grad_by_freq = True
    assert token_embedding(student) is None
    model.set_input_embeddings(type("Scaled", (nn.Embedding,), {})(*own.weight.shape))
    assert token_embedding(student) is None


def saved_bytes(run):
    """What autograd keeps for the backward pass while ``run`` computes a loss, and that loss."""
    kept = 0

    def count(tensor):
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = run()
    return kept, loss


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("loss", [KLDivergence(), MarginMSE(), InfoNCE(in_batch=True)])
def test_grad_cache_gives_the_same_gradient_in_less_memory(student_folder, table, tmp_path, loss, dropout):
    """Chunks encoded a second time, with the same dropout, instead of kept."""

    def step(grad_cache):
        trainer = trainer_of(student_folder, table, tmp_path, loss, chunk_tokens=40, grad_cache=grad_cache)
        set_dropout(trainer.student.transformers_model, dropout)
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(6)])
        trainer.model.train()
        torch.manual_seed(0)
        kept, value = saved_bytes(lambda: trainer.compute_loss(trainer.model, batch))
        value.backward()
        return kept, value.item(), [p.grad for p in trainer.model.parameters() if p.grad is not None]

    kept, value, gradients = step(True)
    kept_directly, expected, expected_gradients = step(False)
    assert value == pytest.approx(expected, abs=1e-6)
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-5)
    assert kept < kept_directly / 5


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize(
    ("prompts", "default"),
    [
        ({}, None),
        ({"query": "w1 w2 ", "document": "w3 "}, None),
        ({"query": "w1 w2 ", "passage": "w3 "}, None),
        ({"query": "", "document": "", "web": "w7 w8 "}, "web"),
        ({"web": "w7 w8 "}, "web"),
    ],
)
def test_the_loss_is_that_of_the_encoded_texts(student_folder, table, tmp_path, prompts, default, pooled):
    """Sorting, deduplication and gathering must put every score in its place.

    A model trained without its prompts, or with others than it encodes with, is another model.
    """
    student = load_student(student_folder)
    student.prompts, student.default_prompt_name = prompts, default
    student.set_pooling_include_prompt(pooled)
    seen = {}

    class Spy(nn.Module):
        def forward(self, student, teacher, positive, mask, in_batch, in_batch_mask, in_batch_teacher):
            seen.update(locals())
            return student.sum()

    trainer = trainer_of(student_folder, table, tmp_path, Spy(), student=student, chunk_tokens=50)
    groups = [trainer.train_dataset[i] for i in range(5)]
    trainer.compute_loss(trainer.model, trainer.data_collator(groups))
    collection = table.collection
    for b, group in enumerate(groups):
        query = student.encode_query([collection.queries[group.query_row]], normalize_embeddings=True)
        documents = student.encode_document(
            [collection.documents[row] for row in group.document_rows], normalize_embeddings=True
        )
        g = len(group.document_rows)
        np.testing.assert_allclose(seen["student"][b, :g].detach(), 20 * (documents @ query[0]), atol=1e-3)
        np.testing.assert_allclose(seen["teacher"][b, :g], group.teacher, rtol=1e-6)
        assert seen["mask"][b].sum() == g


def test_in_batch_negatives_are_other_groups_documents_without_known_positives(student_folder, table):
    """In-batch duplicates and known positives of other queries are false negatives."""
    groups = [TrainingGroups(table, RandomSampler(1, 3))[i] for i in range(8)]
    batch = collated(student_folder, table.collection, groups, 10**9)
    order = {}  # place of a document in the batch, from the groups themselves
    for b, group in enumerate(groups):
        order |= dict(zip(group.document_rows.tolist(), batch["index"][b].tolist(), strict=False))
    assert sorted(order.values()) == list(range(len(order)))
    mask, teacher = in_batch_negatives(batch["document_rows"], batch["pools"])
    for b, group in enumerate(groups):
        for row, place in order.items():
            known = row in group.pool_rows
            relevant = known and group.pool_positive[group.pool_rows == row][0]
            allowed = row not in group.document_rows and not relevant
            assert mask[b, place].item() == allowed and batch["document_rows"][place] == row
            score = teacher[b, place]
            assert score.isnan() if not known else score == group.pool_teacher[group.pool_rows == row][0]
    twice = torch.cat([batch["document_rows"], torch.tensor([-1]), batch["document_rows"].flip(0)])
    again, _ = in_batch_negatives(twice, batch["pools"])
    assert torch.equal(again[:, : len(order)], mask) and not again[:, len(order) :].any()


def test_positives_that_a_file_has_no_score_of_are_no_negatives_either(student_folder, table):
    """The pools of mined candidates hold all positives; those of a file need not."""
    collection = table.collection
    judged = {**collection.qrels["train"], "q0": {"d0": 1, "d5": 1}}
    more = dataclasses.replace(collection, qrels={**collection.qrels, "train": judged})
    rows = [table.pool(i)[0] for i in range(2)]
    rows[0] = rows[0][rows[0] != 5]
    groups = [
        Group(q, np.array([q, 40 + q]), np.zeros(2), np.array([True, False]), *pool)
        for q, pool in enumerate((r, np.zeros(len(r), np.float32), r == q) for q, r in enumerate(rows))
    ]
    groups[1] = dataclasses.replace(groups[1], document_rows=np.array([1, 5]))
    batch = collated(student_folder, more, groups)
    allowed, teacher = in_batch_negatives(batch["document_rows"], batch["pools"])
    at = batch["document_rows"].tolist().index(5)
    assert not allowed[0, at] and teacher[0, at].isnan()
    assert allowed[0, batch["document_rows"].tolist().index(1)]


def test_a_query_that_is_a_document_is_no_negative_of_itself(student_folder, table):
    """Neither of its own group, where a file has a score of it, nor as another query's document."""
    names = [f"d{i}" if i < 8 else f"q{i}" for i in range(24)]
    qrels = {"train": {"d0": {"d40": 1}, "d1": {"d41": 1}}}
    own = dataclasses.replace(
        table.collection, query_ids=names, queries=table.collection.documents[:24], qrels=qrels
    )
    rows = np.array([0, 2, 40, 0, 1, 41], np.int32)
    positive = np.array([False, False, True, False, False, True])
    pools = Candidates(own, np.arange(2), np.array([0, 3, 6]), rows, positive, {})
    groups = TrainingGroups(ScoreTable(pools, np.arange(6, dtype=np.float32)), RandomSampler(1, 1))
    assert [sorted(groups[i].document_rows.tolist()) for i in range(2)] == [[2, 40], [0, 41]]
    assert groups.table.scores.tolist() == [1, 2, 3, 5]
    batch = collated(student_folder, own, [groups[0], groups[1]])
    allowed, _ = in_batch_negatives(batch["document_rows"], batch["pools"])
    found = [set(batch["document_rows"][mask].tolist()) for mask in allowed]
    assert found == [{41}, {2, 40}]


def test_copies_of_positives_and_positives_of_an_equal_query_are_no_in_batch_negatives(
    student_folder, copied
):
    table = score_candidates(WordTeacher(), mine(copied, [Random(30)], "train"))
    table = table.take([0, 1, 2, 3])
    groups = TrainingGroups(table, RandomSampler(1, 15))
    groups = [groups[i] for i in range(4)]
    batch = collated(student_folder, copied, groups)
    for rows in (batch["document_rows"], torch.randperm(80)):  # those of other processes too
        mask, _ = in_batch_negatives(rows, batch["pools"])
        for b, group in enumerate(groups):
            relevant = {0: {0, 1}, 1: {0, 1}}.get(group.query_row, {group.query_row})
            own = {*relevant, *group.document_rows.tolist()}  # negatives of the group count already
            texts = {copied.documents[row].strip() for row in own}
            for place, row in enumerate(rows.tolist()):
                same = copied.documents[row].strip() in texts
                assert mask[b, place].item() == (not same)


def test_training_moves_the_student_towards_the_teacher(student_folder, table, tmp_path):
    trainer = trainer_of(
        student_folder,
        table,
        tmp_path,
        sampler=StratifiedSampler(1, 5),
        num_train_epochs=8,
        learning_rate=1e-2,
        logging_steps=4,
    )
    trainer.train()
    agreement = [row["agreement"] for row in trainer.state.log_history if "agreement" in row]
    assert agreement[-1] > agreement[0] + 0.1
    assert not trainer.student.training


def test_the_log_says_what_was_shown(student_folder, table, tmp_path):
    trainer = trainer_of(
        student_folder, table, tmp_path, logging_steps=1, num_train_epochs=1, teacher_scale=1.0
    )
    trainer.train()
    first = trainer.state.log_history[0]
    order = list(trainer._get_train_sampler())[:4]
    shown = np.stack([trainer.train_dataset[i].teacher for i in order])
    p = np.exp(shown) / np.exp(shown).sum(axis=1, keepdims=True)
    assert first["teacher_std"] == pytest.approx(shown.std(axis=1).mean(), abs=1e-3)
    assert first["teacher_entropy"] == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), abs=1e-3)
    rows = np.concatenate([trainer.train_dataset[i].document_rows for i in order])
    assert first["repeated_documents"] == pytest.approx(1 - len(set(rows.tolist())) / len(rows), abs=1e-3)
    assert first["tokens_per_second"] > 0


def test_a_resumed_run_logs_what_an_undisturbed_one_does(student_folder, table, tmp_path, monkeypatch):
    """Of whole windows: the row after a checkpoint between two rows was of the steps from there on alone."""
    clock = [0.0]  # it strikes once a step

    def step(self, *args):
        clock[0] += 1
        return made(self, *args)

    made = DistillationTrainer.training_step
    monkeypatch.setattr(DistillationTrainer, "training_step", step)
    monkeypatch.setattr("rankdistill.training.trainer.perf_counter", lambda: clock[0])
    fields = {
        "max_steps": 9,
        "logging_steps": 4,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 9,
    }
    whole = trainer_of(student_folder, table, tmp_path, **fields)
    whole.train()
    rows = [row for row in whole.state.log_history if "loss" in row]
    assert [row["step"] for row in rows] == [4, 8]
    for last in (2, 4, 6):
        resumed = trainer_of(student_folder, table, tmp_path, **fields)
        mean = resumed.train(str(tmp_path / f"checkpoint-{last}")).training_loss
        assert [row for row in resumed.state.log_history if "loss" in row] == rows
        assert 0 < mean < 2 * rows[-1]["loss"], "of its own steps alone"


def test_positives_alone_have_no_agreement(student_folder, table, tmp_path):
    """No pair of theirs could be ordered alike: logged as 0, they were a curve at the bottom of the plot."""
    kinds = {"sampler": RandomSampler(1, 0), "loss": InfoNCE(in_batch=True)}
    trainer = trainer_of(student_folder, table, tmp_path, logging_steps=1, num_train_epochs=1, **kinds)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert rows and all("agreement" not in row and row["student_std"] == 0 for row in rows)


def test_what_is_logged_is_of_all_pairs_of_all_processes(student_folder, table, tmp_path, monkeypatch):
    """Not a mean of shares: one pair of 1 and 2 of 9 are 3 of 10, and another process has 1 of 10."""
    trainer = trainer_of(student_folder, table, tmp_path)
    columns = {"document_rows": np.arange(2), "inputs": {"student": None}}
    monkeypatch.setattr(trainer.model.student, "tokens", lambda _: 1)
    for teacher, student in (
        ([[0.0, 1.0]], [[0.0, 1.0]]),
        ([[0.0, 1.0, 1.0, 1.0]] * 3, [[1.0, 2.0, 0.0, 0.0], [1.0, 0.0, 2.0, 0.0], [1.0, 0.0, 0.0, 0.0]]),
    ):
        teacher, student = torch.tensor(teacher), torch.tensor(student)
        trainer._observe(student, teacher, torch.ones_like(teacher, dtype=torch.bool), columns)
    logs = {"loss": 1.0}
    with monkeypatch.context() as patched:
        patched.setattr(
            "rankdistill.runtime.processes.gathered",
            lambda x: [x, {name: np.array([1.0, 10.0]) for name in x}] if isinstance(x, dict) else [x],
        )
        trainer.log(logs)
    assert logs["agreement"] == 0.2  # (1 + 2 + 1) / (1 + 9 + 10)
    assert logs["repeated_documents"] == round((0 + 10 + 1) / (2 + 12 + 10), 4)
    assert logs["teacher_std"] == round((0.5 + 3 * 0.75**0.5 / 2 + 1) / (1 + 3 + 10), 4)


def test_match_gives_the_teacher_the_students_spread(student_folder, table, tmp_path):
    trainer = trainer_of(
        student_folder,
        table,
        tmp_path,
        logging_steps=1,
        max_steps=1,
        learning_rate=0.0,
        per_device_train_batch_size=16,
    )
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["teacher_std"] == pytest.approx(first["student_std"], rel=0.02)


def test_the_matching_factor_does_not_depend_on_the_batch(student_folder, table, tmp_path):
    """Sixteen groups in batches of 5: the last one, of one group, must not weigh as much as the others."""
    factors = []
    for size in (16, 5):
        trainer = trainer_of(student_folder, table, tmp_path, per_device_train_batch_size=size)
        trainer._match_scales()
        factors.append(trainer.model.teacher_factor.item())
    assert factors[0] == pytest.approx(factors[1], rel=1e-4)


def test_of_several_gpus_a_process_takes_one(student_folder, table, tmp_path, caplog):
    """transformers would wrap the student in DataParallel, which splits chunks between them."""
    given = arguments(tmp_path)
    given._n_gpu = 2
    trainer = DistillationTrainer(
        load_student(student_folder), table, RandomSampler(1, 3), KLDivergence(), given
    )
    assert trainer.args.n_gpu == 1 and trainer.args.train_batch_size == 4
    assert "one of 2 GPUs is used: torchrun" in caplog.text


def test_a_student_with_tied_weights_is_checkpointed_and_taken_up(student_folder, table, tmp_path):
    """safetensors refuses a weight under two names, as T5's embeddings have."""

    def tied():
        student = load_student(student_folder)
        student.transformers_model.alias = student.transformers_model.embeddings
        return student

    whole = trainer_of(student_folder, table, tmp_path / "whole", student=tied())
    whole.train()
    whole.save_model(str(tmp_path / "saved"))
    other = tied()
    load_weights_from(other, tmp_path / "saved" / "model.safetensors")
    for name, value in whole.student.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)
    file = tmp_path / "saved" / "model.safetensors"
    with pytest.raises(InputError, match="weights of another model"):
        load_weights_from(load_student(student_folder, layers=1), file)


def test_spreads_far_apart_are_warned_of(student_folder, table, tmp_path, caplog):
    trainer = trainer_of(student_folder, table, tmp_path, max_steps=1, teacher_scale=1000.0)
    with caplog.at_level(logging.WARNING, logger="rankdistill"):
        trainer.train()
    assert "times as far as the student's" in caplog.text
    assert "teacher_scale=match avoids that" in caplog.text


def test_matched_spreads_are_not_told_to_be_matched(student_folder, table, tmp_path, caplog):
    """A teacher that scores all alike has none that a factor could stretch."""
    alike = dataclasses.replace(table, scores=np.ones_like(table.scores))
    trainer = trainer_of(student_folder, alike, tmp_path, max_steps=1, teacher_scale="match")
    with caplog.at_level(logging.WARNING, logger="rankdistill"):
        trainer.train()
    assert "no scale changes that: within a group the teacher scores all documents alike" in caplog.text
    assert "match avoids" not in caplog.text


@pytest.mark.parametrize(
    ("loss", "heeds"),
    [
        (InfoNCE(), False),
        (InfoNCE(in_batch=True), False),
        (InfoNCE(false_negative_margin=0.1), True),
        (MarginMSE(), True),
        (WeightedSum({"nce": InfoNCE(), "kl": KLDivergence()}, {"nce": 1.0, "kl": 1e-3}), True),
    ],
    ids=["contrastive", "in-batch", "margin", "margin-mse", "sum"],
)
def test_only_a_loss_that_heeds_the_teacher_is_warned_of_it(
    loss, heeds, student_folder, table, tmp_path, caplog
):
    trainer = trainer_of(student_folder, table, tmp_path, loss=loss, max_steps=1, teacher_scale=1000.0)
    with caplog.at_level(logging.WARNING, logger="rankdistill"):
        trainer.train()
    assert ("times as far as the student's" in caplog.text) == heeds


def test_groups_that_teach_a_loss_nothing_are_refused(student_folder, table, tmp_path, caplog):
    """InfoNCE without labels: nothing to move. With some, it trains and says on how few."""

    class Chosen:
        def __init__(self, of):
            self.of, self.seen = of, 0

        def select(self, scores, positive, rng):
            self.seen += 1
            chosen = np.flatnonzero(~positive)[:4]
            return chosen if self.seen > self.of else np.concatenate([np.flatnonzero(positive), chosen])

    with pytest.raises(InputError, match="InfoNCE: of 16 groups only 0 move"):
        trainer_of(student_folder, table, tmp_path, InfoNCE(), Chosen(0), max_steps=1).train()
    trainer_of(student_folder, table, tmp_path, KLDivergence(), Chosen(0), max_steps=1).train()
    with caplog.at_level(logging.WARNING, logger="rankdistill"):
        trainer_of(student_folder, table, tmp_path, InfoNCE(), Chosen(5), max_steps=1).train()
    assert "of 16 groups only 5 move" in caplog.text


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (lambda student: student.sum(dim=1), r"a tensor \(\d+,\)"),
        (lambda student: student.sum()[None], r"a tensor \(1,\)"),
        (lambda student: student.sum().item(), "float"),
        (lambda student: {"loss": student.sum()}, "dict"),
        (lambda student: None, "NoneType"),
    ],
)
def test_a_loss_of_ones_own_that_gives_no_scalar_is_told_so(student_folder, table, tmp_path, value, found):
    class Own(nn.Module):
        def forward(self, student, teacher, positive, mask):
            return value(student)

    with pytest.raises(InputError, match=f"^loss: Own gives {found}; it must give a scalar tensor"):
        trainer_of(student_folder, table, tmp_path, Own()).train()


@pytest.mark.parametrize("loss", ["kl", KLDivergence, lambda student, teacher, positive, mask: student.sum()])
def test_a_loss_that_is_no_module_is_refused(student_folder, table, tmp_path, loss):
    with pytest.raises(InputError, match=r"^loss=.*: it must be a Module; KLDivergence\(\) is one"):
        trainer_of(student_folder, table, tmp_path, loss)


@pytest.mark.parametrize("sampler", ["random", RandomSampler, lambda scores, positive, rng: [0, 1]])
def test_what_is_no_sampler_is_refused(student_folder, table, tmp_path, sampler):
    with pytest.raises(InputError, match=r"^sampler: .* has no select\(scores, positive, rng\)"):
        trainer_of(student_folder, table, tmp_path, sampler=sampler)


def test_a_loss_that_is_not_finite_stops_with_step_queries_and_scores(student_folder, table, tmp_path):
    class Broken(nn.Module):
        def forward(self, student, teacher, positive, mask):
            return student.sum() * float("nan")

    with pytest.raises(
        InputError, match=r"step 1: the loss is nan; queries 'q\d+'.* student scores .* teacher's"
    ):
        trainer_of(student_folder, table, tmp_path, Broken(), max_steps=2).train()


@pytest.mark.parametrize("stop", [3, 5])
def test_a_resumed_run_ends_with_the_same_weights(student_folder, table, tmp_path, stop):
    """4 steps an epoch: one stop within the first epoch, one in the second, whose order differs."""
    loss = WeightedSum({"kl": KLDivergence(), "infonce": InfoNCE(in_batch=True)}, {"kl": 1.0, "infonce": 0.5})
    fields = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": stop}
    whole = trainer_of(student_folder, table, tmp_path / "whole", copy.deepcopy(loss), **fields)
    whole.train()

    class Stop(Exception):
        pass

    def interrupted(*args, **kwargs):
        raise Stop

    first = trainer_of(student_folder, table, tmp_path / "parts", copy.deepcopy(loss), **fields)
    step, count = first.training_step, iter(range(stop))
    first.training_step = lambda *a, **k: step(*a, **k) if next(count, None) is not None else interrupted()
    with pytest.raises(Stop):
        first.train()
    second = trainer_of(student_folder, table, tmp_path / "parts", copy.deepcopy(loss), **fields)
    second.train(resume_from_checkpoint=str(tmp_path / "parts" / f"checkpoint-{stop}"))
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(second)[name]), name


def test_lora_trains_few_weights_and_merges_into_a_plain_model(student_folder, table, tmp_path):
    from sentence_transformers import SentenceTransformer

    from rankdistill.students import merge_adapter

    student = load_student(student_folder, lora={"r": 2})
    share = sum(p.numel() for p in student.parameters() if p.requires_grad) / sum(
        p.numel() for p in student.parameters()
    )
    assert 0 < share < 0.5
    trainer = DistillationTrainer(
        student, table, RandomSampler(1, 3), KLDivergence(), arguments(tmp_path, max_steps=3)
    )
    trainer.train()
    adapted = student.encode(["w1 w2 w3"])
    merge_adapter(student)
    np.testing.assert_allclose(student.encode(["w1 w2 w3"]), adapted, atol=1e-5)
    student.save_pretrained(str(tmp_path / "merged"), create_model_card=False)
    assert not list((tmp_path / "merged").glob("**/adapter*"))
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path / "merged")).encode(["w1 w2 w3"]), adapted, atol=1e-5
    )
    assert not np.allclose(load_student(student_folder).encode(["w1 w2 w3"]), adapted, atol=1e-4)


def test_the_saved_student_scores_as_trained(student_folder, table, tmp_path):
    from sentence_transformers import SentenceTransformer

    trainer = trainer_of(student_folder, table, tmp_path, max_steps=2)
    trainer.train()
    trainer.student.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    texts = table.collection.documents[:5]
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path / "model")).encode(texts), trainer.student.encode(texts), atol=1e-6
    )
    assert not list((tmp_path / "model").glob("**/*.bin"))
    json.loads((tmp_path / "model" / "modules.json").read_text())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"similarity": "euclid"}, "it must be 'cosine' or 'dot'"),
        ({"teacher_scale": 0}, "teacher_scale=0"),
        ({"teacher_scale": True}, "teacher_scale=True"),
        ({"teacher_scale": "twice"}, "teacher_scale='twice'"),
        ({"teacher_scale": float("nan")}, "teacher_scale=nan"),
        ({"scale": float("inf")}, "scale=inf"),
        ({"scale": float("nan")}, "scale=nan"),
        ({"scale": -1}, "scale=-1"),
        ({"scale": 1e30}, "scale=1e"),
        ({"scale": "20"}, "scale='20'"),
        ({"scale": True}, "scale=True"),
        ({"chunk_tokens": True}, "chunk_tokens=True"),
        ({"chunk_tokens": 1.5}, "chunk_tokens=1.5"),
        ({"chunk_tokens": 0}, "chunk_tokens=0"),
        ({"teacher_scale": 1e39}, "teacher_scale=1e"),
        ({"teacher_scores": "log"}, "teacher_scores='log'"),
    ],
)
def test_bad_settings_are_named(student_folder, table, tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        trainer_of(student_folder, table, tmp_path, **settings)


def test_an_unknown_training_argument_is_named():
    with pytest.raises(InputError, match="learnin_rate"):
        training_arguments("x", learnin_rate=1)


def test_a_file_with_test_scores_does_not_bring_them_into_training(student_folder, collection, tmp_path):
    """docs/own_scores.md recommends such a file: the teacher is measured on the test scores."""
    pools = [mine(collection, [Random(9)], split) for split in ("train", "test")]
    with open(tmp_path / "scores.csv", "w") as file:
        file.write("query_id,document_id,score\n")
        for found in pools:
            for i, query in enumerate(found.query_rows):
                rows = found.document_rows[found.pool(i)]
                file.writelines(f"q{query},d{row},{row / 7}\n" for row in rows)
    both = read_scores(tmp_path / "scores.csv", collection)
    assert len(both) == 24
    with pytest.raises(InputError, match="8 of its 24 queries are judged in test, not in train"):
        trainer_of(student_folder, both, tmp_path)
    trainer = trainer_of(student_folder, both.of_split("train"), tmp_path)
    assert {group.query_row for group in map(trainer.train_dataset.__getitem__, range(16))} == set(range(16))
    with pytest.raises(InputError, match="say split='train'"):
        trainer_of(student_folder, both, tmp_path, split="test")


@pytest.mark.parametrize(
    ("steps", "rates"),
    [
        (1, [1.0]),
        (4, [1.0, 0.75, 0.5, 0.25]),
        (16, [0.5, 1.0, *(i / 15 for i in range(14, 0, -1))]),
    ],
)
def test_no_step_has_a_rate_of_zero(student_folder, table, tmp_path, steps, rates):
    """Of 0.1 of the steps, rounded up, the rate rises linearly, then falls; transformers' own begins at 0."""
    fields = {"max_steps": steps, "warmup_steps": 0.1, "logging_steps": 1, "learning_rate": 1.0e-3}
    trainer = trainer_of(student_folder, table, tmp_path, **fields)
    trainer.train()
    logged = [row["learning_rate"] for row in trainer.state.log_history if "loss" in row]
    assert logged == pytest.approx([1e-3 * rate for rate in rates])


def test_positives_alone_are_told_from_the_batch(student_folder, table, tmp_path):
    """As MultipleNegativesRankingLoss has it; a loss within groups would learn nothing of them."""
    sampler = RandomSampler(negatives=0)
    fields = {"sampler": sampler, "max_steps": 2, "learning_rate": 1e-2}
    trainer = trainer_of(student_folder, table, tmp_path, InfoNCE(in_batch=True), **fields)
    before = weights(trainer)
    trainer.train()
    groups = [trainer.train_dataset[i] for i in range(len(trainer.train_dataset))]
    assert all(len(group.document_rows) == 1 and group.positive.all() for group in groups)
    assert any(not torch.equal(value, before[name]) for name, value in weights(trainer).items())
    with pytest.raises(InputError, match="groups of one document teach KLDivergence nothing"):
        trainer_of(student_folder, table, tmp_path, KLDivergence(), **fields)
