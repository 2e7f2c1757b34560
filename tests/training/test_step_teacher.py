"""A teacher inside the step: its scores and gradients, its weights in checkpoints, and its own texts."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder, SentenceTransformer

from rankdistill.data import View
from rankdistill.errors import InputError
from rankdistill.losses import InfoNCE, Joint, KLDivergence, Layerwise, Loss
from rankdistill.samplers import RandomSampler
from rankdistill.students import load_student
from rankdistill.students.cross_encoder import load_cross_encoder
from rankdistill.students.dense import DenseEncoder
from rankdistill.teachers import BM25Teacher, DenseTeacher
from rankdistill.training import DistillationTrainer, StepTeacher, training_arguments
from rankdistill.vocabulary import Batch


class Apart(Loss):
    """The mean squared distance of the student's document vectors from the teacher's."""

    reads = frozenset({"documents"})
    reads_of_teacher = frozenset({"documents"})

    def forward(self, student, teacher, batch):
        return (student.documents.vectors - teacher.documents.vectors).square().mean()


def trainer_of(student_folder, table, folder, teacher, loss=None, **fields):
    defaults = {"per_device_train_batch_size": 4, "learning_rate": 1e-2, "bf16": False, "disable_tqdm": True}
    return DistillationTrainer(
        load_student(student_folder),
        table,
        RandomSampler(1, 3),
        loss or KLDivergence(),
        training_arguments(str(folder), **(defaults | fields)),
        step_teacher=teacher,
    )


def outputs_of(trainer, groups=4):
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(groups)])
    with torch.no_grad(), trainer.model.student.training_pass(), trainer.model.teacher.training_pass():
        return trainer.model.eval().outputs(Batch(**batch))


@pytest.mark.parametrize("max_steps", [1, 1000], ids=["read in the step", "stored"])
def test_a_bi_encoder_scores_the_batch_as_it_encodes(student_folder, table, tmp_path, max_steps):
    """Which reads other texts, so that it takes the documents in another order than the student."""
    other, collection = load_student(student_folder), table.collection
    swapped = dict(zip(collection.document_ids, reversed(collection.documents), strict=True))
    inside = StepTeacher(other, view=View(documents=swapped))
    loss = InfoNCE(in_batch=True)
    trainer = trainer_of(student_folder, table, tmp_path, inside, loss, max_steps=max_steps)
    stored = not isinstance(trainer.model.teacher, DenseEncoder)
    assert stored == (max_steps > 1)  # more texts are shown than the collection has
    student, teacher, batch = outputs_of(trainer)
    _, order = batch.inputs["teacher"]
    assert stored or not torch.equal(order, torch.arange(len(order)))  # else this test shows nothing
    texts = [swapped[collection.document_ids[row]] for row in batch.document_rows]
    queries = other.encode_query([collection.queries[row] for row in batch.query_rows])
    documents = other.encode_document(texts)
    expected = 20 * other.similarity(queries, documents)
    torch.testing.assert_close(teacher.in_batch, expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(teacher.scores, expected.gather(1, batch.index), atol=2e-5, rtol=1e-4)
    assert not torch.allclose(student.scores, teacher.scores, atol=1e-2)


def test_its_documents_are_in_the_batch_s_order(student_folder, table, tmp_path):
    other, collection = load_student(student_folder), table.collection
    swapped = dict(zip(collection.document_ids, reversed(collection.documents), strict=True))
    inside = StepTeacher(other, view=View(documents=swapped))
    _, teacher, batch = outputs_of(trainer_of(student_folder, table, tmp_path, inside, Apart()))
    texts = [swapped[collection.document_ids[row]] for row in batch.document_rows]
    expected = torch.tensor(other.encode_document(texts, normalize_embeddings=True))
    torch.testing.assert_close(teacher.documents.vectors, expected, atol=1e-5, rtol=1e-4)


def test_a_cross_encoder_scores_pairs(student_folder, cross_encoder_folder, table, tmp_path):
    model = load_cross_encoder(cross_encoder_folder, max_length=64)
    trainer = trainer_of(student_folder, table, tmp_path, StepTeacher(model), InfoNCE(in_batch=True))
    _, teacher, batch = outputs_of(trainer)
    collection = table.collection
    pairs = [
        (collection.queries[query], collection.documents[batch.document_rows[place]])
        for query, places in zip(batch.query_rows, batch.index, strict=True)
        for place in places
    ]
    expected = torch.tensor(model.predict(pairs, activation_fn=torch.nn.Identity())).view(4, 4)
    torch.testing.assert_close(teacher.scores, expected, atol=1e-5, rtol=1e-4)
    assert teacher.in_batch.isnan().all()  # it knows the groups' documents alone


def test_a_copy_of_the_student_stays_as_it_was_and_is_in_no_checkpoint(student_folder, table, tmp_path):
    fields = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "warmup_steps": 0}
    trainer = trainer_of(student_folder, table, tmp_path, StepTeacher(), InfoNCE(), **fields)
    before = {name: weight.clone() for name, weight in trainer.model.student.model.named_parameters()}
    trainer.train()
    for name, weight in trainer.model.teacher.model.named_parameters():
        assert torch.equal(weight, before[name]), name
    assert any(not torch.equal(w, before[n]) for n, w in trainer.model.student.model.named_parameters())
    kept = load_file(tmp_path / "checkpoint-3" / "model.safetensors")
    assert {name.split(".")[0] for name in kept} == {"student", "teacher_factor"}


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
def test_it_resumes_to_the_same_bytes(student_folder, cross_encoder_folder, table, tmp_path, trained):
    fields = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "warmup_steps": 0}

    def begin(folder):
        teacher = StepTeacher(load_cross_encoder(cross_encoder_folder, max_length=64), trained)
        return trainer_of(student_folder, table, folder, teacher, Joint(), **fields)

    whole = begin(tmp_path / "whole")
    whole.train()
    shutil.copytree(tmp_path / "whole" / "checkpoint-3", tmp_path / "parts" / "checkpoint-3")
    resumed = begin(tmp_path / "parts")
    resumed.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-3"))
    for (name, one), other in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other), name
    start = load_cross_encoder(cross_encoder_folder, max_length=64)
    weights = whole.model.teacher.model.named_parameters()
    assert all(torch.equal(weight, start.get_parameter(name)) for name, weight in weights) != trained


def test_labels_keep_a_trained_teacher_from_collapsing(student_folder, cross_encoder_folder, table, tmp_path):
    """By the KL alone the two agree on a uniform distribution; with its labels the teacher learns them."""
    losses = {}
    for weight in (0.0, 1.0):
        teacher = StepTeacher(load_cross_encoder(cross_encoder_folder, max_length=64), trained=True)
        fields = {"max_steps": 40, "warmup_steps": 0, "lr_scheduler_type": "constant", "learning_rate": 3e-3}
        trainer = trainer_of(student_folder, table, tmp_path, teacher, Joint(weight), **fields)
        trainer.train()
        _, found, batch = outputs_of(trainer)
        losses[weight] = InfoNCE()(found.scores, found.scores, batch.positive, batch.mask).item()
    assert losses[1.0] < 0.7 * losses[0.0]


def test_it_may_read_other_texts(student_folder, table, tmp_path):
    collection = table.collection
    texts = zip(collection.query_ids, collection.queries, strict=True)
    written = {name: text.split()[-1] for name, text in texts}
    view = View(queries=written, document_prompt="w1 w2 ")
    other = load_student(student_folder)
    trainer = trainer_of(student_folder, table, tmp_path, StepTeacher(other, view=view))
    student, teacher, batch = outputs_of(trainer)
    queries = [written[collection.query_ids[row]] for row in batch.query_rows]
    documents = [f"w1 w2 {collection.documents[row]}" for row in batch.document_rows]
    expected = 20 * other.similarity(other.encode_query(queries), other.encode_document(documents))
    torch.testing.assert_close(teacher.scores, expected.gather(1, batch.index), atol=2e-5, rtol=1e-4)


def test_layers_are_the_pooled_states_of_each(student_folder, table, tmp_path):
    other = load_student(student_folder)
    trainer = trainer_of(student_folder, table, tmp_path, StepTeacher(other), Layerwise())
    _, teacher, batch = outputs_of(trainer)
    texts = [table.collection.documents[row] for row in batch.document_rows]
    features = other.preprocess(texts)
    with torch.no_grad():
        states = other[0].auto_model(**features, output_hidden_states=True).hidden_states
    mask = features["attention_mask"].unsqueeze(2)
    for layer, found in zip(states, teacher.documents.layers, strict=True):
        torch.testing.assert_close(found, (layer * mask).sum(1) / mask.sum(1), atol=1e-5, rtol=1e-4)
    assert len(states) == other[0].auto_model.config.num_hidden_layers + 1


@pytest.mark.parametrize("loss", [Layerwise, Apart])
def test_a_loss_of_embeddings_alone_trains(student_folder, table, tmp_path, loss):
    """It reads no scores, of which there is then no gradient."""
    other = load_student(student_folder, layers=1)
    trainer = trainer_of(student_folder, table, tmp_path, StepTeacher(other), loss(), max_steps=2)
    before = {name: weight.detach().clone() for name, weight in trainer.student.named_parameters()}
    trainer.train()
    assert any(not torch.equal(weight, before[name]) for name, weight in trainer.student.named_parameters())


def test_what_it_does_not_offer_is_refused(student_folder, cross_encoder_folder, table, tmp_path):
    model = load_cross_encoder(cross_encoder_folder, max_length=64)
    message = "Apart reads the teacher's documents, which the teacher inside the step, CrossEncoder, does not"
    with pytest.raises(InputError, match=message):
        trainer_of(student_folder, table, tmp_path, StepTeacher(model), Apart())
    with pytest.raises(InputError, match="a table of scores does not offer; it offers in_batch, scores; set"):
        trainer_of(student_folder, table, tmp_path, None, Apart())
    with pytest.raises(
        InputError, match="step_teacher.model is 'dense': it must be a model, a teacher that is"
    ):
        StepTeacher("dense")


def test_trained_teachers_are_saved_with_the_stage(student_folder, cross_encoder_folder, table, tmp_path):
    from rankdistill.training.checkpoints import finish

    teacher = StepTeacher(load_cross_encoder(cross_encoder_folder, max_length=64), trained=True)
    trainer = trainer_of(student_folder, table, tmp_path, teacher, Joint(), max_steps=2, warmup_steps=0)
    trainer.train()
    finish(trainer, [], tmp_path / "finished", "run")
    pairs = [("w1 w2", "w3"), ("w4", "w5 w6")]
    saved = CrossEncoder(str(tmp_path / "finished" / "teacher"))
    assert saved.predict(pairs) == pytest.approx(trainer.model.teacher.model.predict(pairs), abs=1e-6)


def test_views_keep_what_has_no_other_text(collection, tmp_path, caplog):
    caplog.set_level("INFO")
    first = collection.query_ids[0]
    (tmp_path / "queries.tsv").write_text(f"{first}\tanother\ttext\n")
    seen = View(queries=tmp_path / "queries.tsv", query_prompt="query: ").of(collection)
    assert seen.queries[0] == "query: another\ttext"
    assert seen.queries[1:] == [f"query: {text}" for text in collection.queries[1:]]
    assert seen.documents is collection.documents and seen.query_ids == collection.query_ids
    assert f"1 of {len(collection.queries)} queries have another text" in caplog.text
    (tmp_path / "documents.jsonl").write_text('{"_id": "nobody", "text": "a"}\n')
    with pytest.raises(InputError, match="documents.jsonl: documents: a text of none of the 60"):
        View(documents=tmp_path / "documents.jsonl").of(collection)
    (tmp_path / "queries.tsv").write_text(f"{first} no tab\n")
    with pytest.raises(InputError, match="queries.tsv:1: expected an id and a text with a tab"):
        View(queries=tmp_path / "queries.tsv").of(collection)


def test_its_texts_and_weights_are_in_its_fingerprint(student_folder):
    teacher = StepTeacher(load_student(student_folder))
    others = [
        StepTeacher(load_student(student_folder), view=View(query_prompt="a ")),
        StepTeacher(load_student(student_folder, layers=1)),
        StepTeacher(load_student(student_folder), trained=True),
        StepTeacher(),
    ]
    again = StepTeacher(load_student(student_folder))
    assert again.fingerprint == teacher.fingerprint
    assert len({one.fingerprint for one in [teacher, *others]}) == 5
    assert isinstance(teacher.model, SentenceTransformer)


def test_one_that_was_frozen_before_reads_texts_as_before(student_folder, table, tmp_path):
    inside = StepTeacher(load_student(student_folder))
    first, second = (trainer_of(student_folder, table, tmp_path, inside, Layerwise()) for _ in range(2))
    scores = [outputs_of(trainer)[1].scores for trainer in (first, second)]
    assert torch.equal(*scores) and type(first.model.teacher) is type(second.model.teacher)


def test_one_that_is_stored_for_a_stage_is_trained_in_the_next(student_folder, table, tmp_path):
    model = load_student(student_folder)
    many = trainer_of(student_folder, table, tmp_path, StepTeacher(model), Layerwise(), max_steps=1000)
    assert isinstance(many.model.teacher, DenseEncoder)  # what its layers say is not stored
    loss = InfoNCE(in_batch=True)
    stored = trainer_of(student_folder, table, tmp_path, StepTeacher(model), loss, max_steps=1000)
    assert not isinstance(stored.model.teacher, DenseEncoder)
    trained = trainer_of(student_folder, table, tmp_path, StepTeacher(model, trained=True), Joint())
    assert trained.model.trains_teacher


def test_scales_match_over_the_batch_where_positives_are_alone(student_folder, table, tmp_path):
    """Then no group has a spread; the batch's documents that may be negatives have one. Dot products have no
    unit in common."""
    loss, fields = KLDivergence(in_batch=True), {"max_steps": 1, "per_device_train_batch_size": 8}
    arguments = training_arguments(str(tmp_path), bf16=False, disable_tqdm=True, **fields)
    teacher, sampler = StepTeacher(load_student(student_folder, layers=1)), RandomSampler(1, 0)
    student = load_student(student_folder)
    trainer = DistillationTrainer(
        student, table, sampler, loss, arguments, step_teacher=teacher, similarity="dot"
    )
    groups = [trainer.train_dataset[i] for i in list(trainer._order)[:64]]
    spreads, sizes = [], []
    for start in range(0, len(groups), 8):
        some = groups[start : start + 8]
        outputs = trainer.model.eval().outputs(Batch(**trainer.data_collator(some)))
        valid = outputs[2].negatives.clone()
        valid[torch.arange(len(some)), outputs[2].index[:, 0]] = True  # the positive itself
        kept = [[row[keep] for row, keep in zip(x.in_batch, valid, strict=True)] for x in outputs[:2]]
        spreads.append([np.mean([row.std(correction=0).item() for row in rows]) for rows in kept])
        sizes.append(len(some))
    student_spread, teacher_spread = np.average(spreads, axis=0, weights=sizes)
    trainer.train()
    assert trainer.model.teacher_factor.item() == pytest.approx(student_spread / teacher_spread, rel=1e-4)


def test_a_teacher_of_pools_scores_the_batch(student_folder, table, tmp_path):
    model = load_student(student_folder)
    inside = StepTeacher(DenseTeacher(model, scale=3.0))
    assert inside.model is model and inside.fingerprint == StepTeacher(model).fingerprint
    trainer = trainer_of(student_folder, table, tmp_path, inside, InfoNCE(in_batch=True), max_steps=1)
    assert not isinstance(trainer.model.teacher, DenseEncoder)  # its vectors are there
    with pytest.raises(InputError, match="step_teacher.model.*a teacher that is one model"):
        StepTeacher(BM25Teacher())


@pytest.mark.parametrize("scale", [None, 5.0])
def test_two_cosines_have_one_scale(student_folder, table, tmp_path, scale, caplog):
    """However near each other an untrained student's documents lie."""
    teacher, arguments = StepTeacher(load_student(student_folder, layers=1)), {"max_steps": 1, "bf16": False}
    trainer = DistillationTrainer(
        load_student(student_folder),
        table,
        RandomSampler(1, 3),
        KLDivergence(in_batch=True),
        training_arguments(str(tmp_path), **arguments),
        step_teacher=teacher,
        scale=scale,
    )
    trainer.train()
    assert trainer.model.teacher_factor.item() == (1.0 if scale is None else 0.25)
    assert "rescale the student" not in caplog.text
