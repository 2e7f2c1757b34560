"""Which queries share a batch."""

import numpy as np
import pytest

from rankdistill.errors import InputError
from rankdistill.losses import InfoNCE
from rankdistill.samplers import RandomSampler
from rankdistill.students import load_student
from rankdistill.training import ClusteredOrder, DistillationTrainer, EpochSampler, training_arguments


def test_batches_are_of_one_cluster_and_hold_every_item_once():
    labels = np.repeat([0, 1, 2], [8, 12, 6])
    for epoch in range(5):
        sampler = EpochSampler(26, 3, labels, batch=4)
        sampler.set_epoch(epoch)
        items = np.array(list(sampler)) - 26 * epoch
        assert sorted(items) == list(range(26))
        batches = [labels[items[i : i + 4]] for i in range(0, 24, 4)]
        mixed = sum(len(set(batch)) > 1 for batch in batches)
        assert mixed <= 2  # where one cluster ends and the next begins, at most
    assert [*EpochSampler(26, 3, labels, 4)] == [*EpochSampler(26, 3, labels, 4)]
    other = EpochSampler(26, 3, labels, 4)
    other.set_epoch(1)
    assert [item - 26 for item in other] != [*EpochSampler(26, 3, labels, 4)]


def test_whole_clusters_fill_whole_batches():
    """In an order that is drawn: the batches of a cluster do not follow each other."""
    labels = np.repeat(np.arange(3), 40)
    owners = labels[[*EpochSampler(120, 0, labels, batch=4)]].reshape(-1, 4)
    assert (owners == owners[:, :1]).all()
    assert (np.diff(owners[:, 0]) != 0).sum() > 10


def test_clusters_are_those_of_the_model_s_embeddings(student_folder, collection):
    """Of two groups of queries far apart, each is a cluster."""
    model, rows = load_student(student_folder), np.arange(16)
    vectors = model.encode_query([collection.queries[row] for row in rows], normalize_embeddings=True)
    labels = ClusteredOrder(model, 4).labels(collection, rows)
    assert set(labels) == {0, 1, 2, 3}
    centres = np.stack([vectors[labels == i].mean(axis=0) for i in range(4)])
    distances = np.square(vectors[:, None] - centres[None]).sum(axis=2)
    assert (distances.argmin(axis=1) == labels).mean() >= 0.9  # k-means has come to rest, or nearly
    assert (ClusteredOrder(model, 4).labels(collection, rows) == labels).all()
    with pytest.raises(InputError, match="order.clusters=17: there are 16 training queries"):
        ClusteredOrder(model, 17).labels(collection, rows)
    with pytest.raises(InputError, match="clusters=0"):
        ClusteredOrder(model, 0)


def test_the_trainer_sees_batches_of_one_topic(student_folder, table, tmp_path):
    order = ClusteredOrder(load_student(student_folder), 2)
    fields = {"per_device_train_batch_size": 4, "max_steps": 4, "bf16": False, "disable_tqdm": True}
    trainer = DistillationTrainer(
        load_student(student_folder),
        table,
        RandomSampler(1, 3),
        InfoNCE(in_batch=True),
        training_arguments(str(tmp_path), **fields),
        order=order,
    )
    seen, compute = [], trainer.compute_loss
    trainer.compute_loss = lambda model, inputs, *a, **k: (
        seen.append(inputs["query_rows"].tolist()),
        compute(model, inputs, *a, **k),
    )[1]
    trainer.train()
    rows = table.candidates.query_rows
    labels = dict(zip(rows.tolist(), order.labels(table.collection, rows), strict=True))
    assert sorted(sum(seen, [])) == sorted(rows.tolist())
    assert sum(len({labels[row] for row in batch}) > 1 for batch in seen) <= 1
