"""A JSON file of a model's folder that is damaged ends in one line with the file, for every kind of model."""

import shutil
from pathlib import Path

import pytest

from rankdistill.errors import InputError
from rankdistill.students import (
    asymmetric_student,
    late_interaction_student,
    load_cross_encoder,
    load_student,
    sparse_student,
    static_student,
)

LOADED_BY = {
    "dense": load_student,
    "lora": load_student,
    "plain": load_student,
    "static": static_student,
    "sparse": sparse_student,
    "late interaction": late_interaction_student,
    "router": load_student,
    "cross-encoder": load_cross_encoder,
}
DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "a list, or an object": lambda content: b"{}" if content.lstrip()[:1] == b"[" else b"[]",
    "null": lambda _: b"null",
    "Latin-1": lambda _: b'{"\xe9": 1}',
}


@pytest.fixture(scope="module")
def folders(student_folder, cross_encoder_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("settings")
    static = static_student(student_folder, None)
    for name, model in (
        ("dense", load_student(student_folder)),
        ("lora", load_student(student_folder, lora={"r": 2})),
        ("static", static),
        ("sparse", sparse_student(student_folder)),
        ("late interaction", late_interaction_student(student_folder, 8)),
        ("router", asymmetric_student(static, load_student(student_folder), "document")),
        ("cross-encoder", load_cross_encoder(cross_encoder_folder)),
    ):
        model.save_pretrained(str(root / name), create_model_card=False)
    shutil.copytree(Path(student_folder).parent / "bert", root / "plain")
    return root


@pytest.mark.parametrize("kind", LOADED_BY)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(folders, tmp_path, kind, damage):
    files = sorted(file.relative_to(folders / kind) for file in (folders / kind).rglob("*.json"))
    assert len(files) > 1
    for i, file in enumerate(files):
        broken = tmp_path / str(i) / file
        shutil.copytree(folders / kind, tmp_path / str(i))
        broken.write_bytes(DAMAGES[damage](broken.read_bytes()))
        with pytest.raises(InputError) as caught:
            LOADED_BY[kind](str(tmp_path / str(i)))
        text = str(caught.value)
        assert "\n" not in text and text.startswith(f"{broken}: damaged ("), text
        assert text.endswith("; get the file again")


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("dense", "1_Pooling/config.json"),
        ("dense", "config_sentence_transformers.json"),
        ("static", "tokenizer.json"),
        ("static", "config_sentence_transformers.json"),
        ("sparse", "2_SpladePooling/config.json"),
        ("late interaction", "2_MultiVectorMask/config.json"),
        ("late interaction", "config_sentence_transformers.json"),
        ("router", "router_config.json"),
        ("router", "query_0_StaticEmbedding/tokenizer.json"),
        ("router", "document_1_Pooling/config.json"),
    ],
)
def test_a_missing_file_is_named(folders, tmp_path, kind, file):
    """Without it defaults were taken: other prompts, another pooling, no list of words to skip."""
    shutil.copytree(folders / kind, tmp_path / "model")
    (tmp_path / "model" / file).unlink()
    with pytest.raises(InputError, match=f"{file}: missing.*; get the file again"):
        LOADED_BY[kind](str(tmp_path / "model"))


def test_a_link_to_what_is_gone_is_a_missing_file(folders, tmp_path):
    """As in a hub's cache, which was copied in part."""
    shutil.copytree(folders / "dense", tmp_path / "model")
    (tmp_path / "model" / "config.json").unlink()
    (tmp_path / "model" / "config.json").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="config.json: missing; get the file again"):
        LOADED_BY["dense"](str(tmp_path / "model"))


@pytest.mark.parametrize("kind", ["dense", "static", "cross-encoder"])
def test_what_no_library_reads_may_be_anything(folders, tmp_path, kind):
    """Hubs hold lists of what a model was trained on, and notes, beside its files."""
    shutil.copytree(folders / kind, tmp_path / "model")
    (tmp_path / "model" / "data_config.json").write_text('[{"name": "pairs", "weight": 1}]')
    (tmp_path / "model" / "notes.config.json").write_text("no JSON")
    LOADED_BY[kind](str(tmp_path / "model"))
