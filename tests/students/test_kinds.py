"""A folder of another kind, or without its tokenizer, is refused in one line that says what it is."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import tiny_config, tiny_tokenizer
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder
from transformers import BertForMaskedLM, BertForSequenceClassification

from rankdistill.errors import InputError
from rankdistill.students import (
    adapter_student,
    asymmetric_student,
    late_interaction_student,
    load_student,
    sparse_student,
    static_student,
)
from rankdistill.students.kinds import kind_of
from rankdistill.teachers import CrossEncoderTeacher, DenseTeacher, LateInteractionTeacher


@pytest.fixture(scope="module")
def folders(student_folder, cross_encoder_folder, tmp_path_factory):
    """One of each kind, as each library saves it."""
    root = tmp_path_factory.mktemp("kinds")
    torch.manual_seed(0)
    BertForMaskedLM(tiny_config()).save_pretrained(root / "mlm")
    tiny_tokenizer().save_pretrained(root / "mlm")
    for kind, source in (
        (SparseEncoder, root / "mlm"),
        (CrossEncoder, cross_encoder_folder),
        (MultiVectorEncoder, student_folder),
    ):
        kind(str(source), device="cpu").save_pretrained(str(root / kind.__name__), create_model_card=False)
    for name, kind, said in (
        ("PyLate", "MultiVectorEncoder", "ColBERT"),
        ("old sparse", "SparseEncoder", None),
    ):
        shutil.copytree(root / kind, root / name)
        change(root / name / "config_sentence_transformers.json", model_type=said)
    shutil.copytree(root / "mlm", root / "ColBERT")
    change(root / "ColBERT" / "config.json", architectures=["HF_ColBERT"])
    shutil.copytree(cross_encoder_folder, root / "classifier")
    shutil.copytree(student_folder, root / "student")
    return root


def change(file, **fields):
    content = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


KINDS = {
    "mlm": "SentenceTransformer",
    "student": "SentenceTransformer",
    "CrossEncoder": "CrossEncoder",
    "classifier": "CrossEncoder",
    "SparseEncoder": "SparseEncoder",
    "old sparse": "SparseEncoder",
    "MultiVectorEncoder": "MultiVectorEncoder",
    "PyLate": "MultiVectorEncoder",
    "ColBERT": "MultiVectorEncoder",
}
NAMES = {
    "SentenceTransformer": "a bi-encoder",
    "CrossEncoder": "a cross-encoder",
    "MultiVectorEncoder": r"a late-interaction model \(ColBERT\)",
    "SparseEncoder": r"a sparse encoder \(SPLADE\)",
}


@pytest.mark.parametrize("name", KINDS)
def test_a_model_s_files_say_what_it_is(folders, name):
    assert kind_of(str(folders / name)) == KINDS[name]


def asymmetric(name):
    return asymmetric_student(model=name)


TAKES = {
    load_student: {"SentenceTransformer", "SparseEncoder", "MultiVectorEncoder"},
    DenseTeacher: {"SentenceTransformer"},
    CrossEncoderTeacher: {"CrossEncoder"},
    LateInteractionTeacher: {"SentenceTransformer", "MultiVectorEncoder"},
    sparse_student: {"SentenceTransformer", "SparseEncoder"},
    late_interaction_student: {"SentenceTransformer", "MultiVectorEncoder"},
    static_student: {"SentenceTransformer"},
    adapter_student: {"SentenceTransformer"},
    asymmetric: {"SentenceTransformer"},
}


@pytest.mark.parametrize(
    ("load", "name"),
    [(load, name) for load, takes in TAKES.items() for name in KINDS if KINDS[name] not in takes],
)
def test_a_model_of_another_kind_is_refused_by_name(folders, load, name):
    with pytest.raises(InputError, match=f"is {NAMES[KINDS[name]]}, and .* is needed here; ") as error:
        load(str(folders / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [[], ["tokenizer_config.json"]], ids=["none", "configuration alone"])
@pytest.mark.parametrize(("name", "load"), [("student", load_student), ("classifier", CrossEncoderTeacher)])
def test_a_folder_without_its_tokenizer_s_files_is_refused(folders, tmp_path, name, load, kept):
    """transformers makes a tokenizer up, to which every word is unknown."""
    folder = Path(shutil.copytree(folders / name, tmp_path / "model"))
    for file in folder.glob("*token*"):
        if file.name not in kept:
            file.unlink()
    with pytest.raises(InputError, match="tokenizer's files"):
        load(str(folder))


def test_two_labels_are_refused_in_one_line(tmp_path):
    config = tiny_config()
    config.num_labels = 2
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has several labels, and a teacher's has one") as error:
        CrossEncoderTeacher(str(tmp_path))
    assert "\n" not in str(error.value)
