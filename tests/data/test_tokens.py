import json

import numpy as np
import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.students import load_student
from rankdistill.students.fast.tokens import stored_tokens


def same(one, two):
    assert list(one) == list(two)
    for name, value in two.items():
        assert torch.equal(one[name], value) if torch.is_tensor(value) else one[name] == value


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("prompt", [None, "w1 w2 "])
def test_gives_back_what_the_tokenizer_gave(student_folder, collection, side, prompt):
    """Cut at the length, padded on either side, for any rows in any order."""
    student = load_student(student_folder, max_length=12)
    student.tokenizer.padding_side = side
    store = stored_tokens(student, collection, "document", prompt)
    rows = np.random.default_rng(0).permutation(len(collection.documents))[:20]
    texts = [collection.documents[row] for row in rows]
    same(store.features(rows), dict(student.preprocess(texts, prompt=prompt)))
    assert store.features(rows)["input_ids"].shape[1] == 12 and len(store) == len(collection.documents)


def test_is_built_once_for_each_tokenizer_length_and_prompt(student_folder, collection):
    student = load_student(student_folder, max_length=12)
    first = stored_tokens(student, collection, "document")
    assert (
        stored_tokens(load_student(student_folder, max_length=12), collection, "document").folder
        == first.folder
    )
    others = [
        stored_tokens(load_student(student_folder, max_length=13), collection, "document"),
        stored_tokens(student, collection, "document", "w3 "),
        stored_tokens(student, collection, "query"),
    ]
    student.tokenizer.add_tokens(["new"])
    others.append(stored_tokens(student, collection, "document"))
    assert len({store.folder for store in (first, *others)}) == 5


def test_what_a_store_would_not_give_back_is_not_stored(student_folder, collection, monkeypatch):
    """Segments, say: the second half of a text's tokens of type 1."""
    student = load_student(student_folder, max_length=12)
    plain = student.preprocess

    def segmented(texts, prompt=None, **kwargs):
        features = plain(texts, prompt=prompt)
        segments = (torch.arange(features["input_ids"].shape[1]) > 2).long().expand_as(features["input_ids"])
        return dict(features) | {"token_type_ids": segments}

    monkeypatch.setattr(student, "preprocess", segmented)
    assert stored_tokens(student, collection, "document") is None
    monkeypatch.setattr(student, "preprocess", lambda texts, **_: {"pixels": torch.zeros(len(texts))})
    assert stored_tokens(student, collection, "document") is None


def test_a_damaged_store_is_named(student_folder, collection):
    student = load_student(student_folder)
    file = stored_tokens(student, collection, "document").folder / "ids.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="ids.npy: damaged"):
        stored_tokens(student, collection, "document")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ids", lambda ids: ids + 1000),
        ("ids", lambda ids: -ids),
        ("ids", lambda ids: ids.astype(np.int64)),
        ("ids", lambda ids: ids[:-1]),
        ("offsets", lambda offsets: offsets[::-1]),
        ("offsets", lambda offsets: offsets[:-1]),
        ("offsets", lambda offsets: offsets * 0),
    ],
)
def test_a_store_without_a_seal_is_checked(student_folder, collection, name, change):
    """As one of an earlier version, or of somebody else: indices would be read from outside the file."""
    student = load_student(student_folder)
    folder = stored_tokens(student, collection, "document").folder
    (folder / ".sha256").unlink()
    whole = np.load(folder / f"{name}.npy")
    np.save(folder / f"{name}.npy", change(whole))
    with pytest.raises(InputError, match=f"{folder}: damaged; delete it"):
        stored_tokens(student, collection, "document")
    np.save(folder / f"{name}.npy", whole)
    stored_tokens(student, collection, "document")
    assert (folder / ".sha256").exists(), "checked once"


def test_only_the_folders_name_crosses_to_a_worker(student_folder, collection):
    store = stored_tokens(load_student(student_folder), collection, "document")
    store.features([0])
    assert list(store.__getstate__()) == ["folder"]
    json.dumps(str(store.__getstate__()["folder"]))
