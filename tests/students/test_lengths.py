"""What a model reads of a text is what it has positions for, and never nothing."""

import numpy as np
import pytest
import torch
import transformers
from conftest import WORDS, tiny_tokenizer
from sentence_transformers import CrossEncoder

from rankdistill.candidates import BM25, Random, mine
from rankdistill.data import Collection
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.retrieval import embed_documents
from rankdistill.students import lengths, load_cross_encoder, load_student
from rankdistill.students.lengths import cut_inputs, cut_texts
from rankdistill.teachers import CrossEncoderTeacher, LateInteractionTeacher, score_candidates

OFFSET = ["Roberta", "XLMRoberta", "Camembert", "MPNet", "Longformer", "Data2VecText", "XLMRobertaXL"]
LONG = " ".join(WORDS[:150])


def write(folder, kind, head="Model", pad=1):
    """A tiny model of 66 positions, whose tokenizer knows no bound."""
    fields = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "Longformer":
        fields["attention_window"] = 4
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=205, max_position_embeddings=66, pad_token_id=pad, num_labels=1, **fields
    )
    torch.manual_seed(0)
    getattr(transformers, kind + head)(config).save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 10**30
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", OFFSET)
@pytest.mark.parametrize("max_length", [256, None])
def test_positions_that_begin_behind_padding_are_not_all_read(tmp_path, kind, max_length):
    """66 positions, 64 tokens: the 65th is an index error, or the end of the process on a GPU."""
    folder = write(tmp_path, kind)
    student, short = (load_student(folder, max_length=n) for n in (max_length, 64))
    assert student.max_seq_length == 64
    np.testing.assert_allclose(embed_documents(student, [LONG]), embed_documents(short, [LONG]), atol=1e-6)


@pytest.mark.parametrize(("kind", "tokens"), [("Bert", 66), ("Electra", 66), ("Roberta", 64)])
def test_a_length_that_was_set_beyond_the_positions_is_cut_to_them(tmp_path, kind, tokens):
    student = load_student(write(tmp_path / "plain", kind), max_length=None)
    student.max_seq_length = 500
    student.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    loaded = load_student(str(tmp_path / "model"), max_length=None)
    assert loaded.max_seq_length == tokens
    assert np.isfinite(embed_documents(loaded, [LONG])).all()


def test_a_teacher_reads_no_more_either(tmp_path):
    folder = write(tmp_path, "Roberta", "ForSequenceClassification")
    pairs = [WORDS[0]] * 2, [LONG, "w3"]
    by_length = [CrossEncoderTeacher(folder, n) for n in (256, None, 64)]
    assert [teacher.model.max_seq_length for teacher in by_length] == [64] * 3
    for teacher in by_length:
        np.testing.assert_allclose(teacher.score(*pairs), by_length[2].score(*pairs), atol=1e-6)


@pytest.mark.parametrize("length", [1, 2])
def test_a_length_that_leaves_no_word_is_refused(student_folder, length):
    with pytest.raises(InputError, match=f"max_length={length}: .* 2 special .* no word is left; give 3 or"):
        load_student(student_folder, max_length=length)
    with pytest.raises(InputError, match="no word is left"):
        LateInteractionTeacher(student_folder, max_length=length)
    student = load_student(student_folder, max_length=3)
    assert student.preprocess(["w1 w2"])["input_ids"].tolist() == [[2, 6, 3]]


def test_a_pair_needs_a_word_of_each(cross_encoder_folder):
    with pytest.raises(InputError, match="adds 3 special tokens to a pair, and no word is left; give 5 or"):
        CrossEncoderTeacher(cross_encoder_folder, max_length=4)
    teacher = CrossEncoderTeacher(cross_encoder_folder, max_length=5)
    assert len(set(teacher.score(["w1"] * 2, ["w2", "w3"]))) == 2


def test_a_prompt_that_fills_the_whole_length_is_refused(student_folder, cross_encoder_folder, tmp_path):
    with pytest.raises(InputError, match="student.prompts.document: .* it has 5 tokens of the 5 that"):
        load_student(student_folder, max_length=5, prompts={"document": "w1 w2 w3 "})
    student = load_student(student_folder, max_length=6, prompts={"document": "w1 w2 w3 "})
    assert abs(np.subtract(*embed_documents(student, ["w4", "w5"]))).max() > 1e-3
    model = CrossEncoder(cross_encoder_folder, device="cpu", prompts={"a": LONG}, default_prompt_name="a")
    model.save_pretrained(str(tmp_path / "asks"), create_model_card=False)
    with pytest.raises(InputError, match="the prompt of .* no word of a text is left"):
        CrossEncoderTeacher(str(tmp_path / "asks"), max_length=32)


def collection_of(*lengths):
    texts = [" ".join(WORDS[:n]) for n in lengths]
    return Collection("lengths", [f"d{i}" for i in range(len(texts))], texts, ["q"], ["w1 w2"], {})


def test_the_texts_that_are_cut_are_counted(student_folder, caplog, monkeypatch):
    """10 tokens are 8 words and two special ones; a prompt takes its share."""
    collection = collection_of(1, 7, 8, 9, 40)
    student = load_student(student_folder, max_length=10)
    with caplog.at_level("INFO", logger="rankdistill"):
        for _ in range(2):
            assert cut_texts(student, collection) == {
                "documents": {"longer": 2, "of": 5, "tokens": 10},
                "queries": {"longer": 0, "of": 1, "tokens": 10},
            }
    line = "lengths: 2 of 5 documents (40 %) are longer than 10 tokens, and are cut"
    assert [record.getMessage() for record in caplog.records if "cut" in record.getMessage()] == [line]
    prompted = load_student(student_folder, max_length=10, prompts={"document": "w1 w2 "})
    assert cut_texts(prompted, collection)["documents"]["longer"] == 4
    monkeypatch.setattr(lengths, "_token_counts", None)  # from here on the cache knows
    assert cut_texts(student, collection)["documents"]["longer"] == 2


def test_all_of_them_are_a_hundred_percent():
    """Not 1e+02 %, as two digits of it are written."""
    found = {
        "documents": {"longer": 12, "of": 12, "tokens": 5},
        "queries": {"longer": 1, "of": 3, "tokens": 5},
    }
    assert [line[: line.index("are")] for line in lengths.said_of(found)] == [
        "12 of 12 documents (100 %) ",
        "1 of 3 queries (33 %) ",
    ]


def test_a_count_in_the_cache_that_is_damaged_is_made_again(student_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))
    student, collection = load_student(student_folder, max_length=10), collection_of(9)
    cut_texts(student, collection)
    for file in (tmp_path / "tokens").glob("*.json"):
        file.write_text("")
    assert cut_texts(student, collection)["documents"]["longer"] == 1


def test_counting_leaves_the_tokenizer_as_it_was(student_folder):
    student, collection = load_student(student_folder, max_length=10), collection_of(9, 1)
    before = student.preprocess(collection.documents)["input_ids"]
    cut_texts(student, collection)
    assert torch.equal(student.preprocess(collection.documents)["input_ids"], before)


@pytest.mark.parametrize("prompt", [None, "w7 w8 "])
def test_the_pairs_that_a_cross_encoder_cuts_are_counted(
    prompt, collection, cross_encoder_folder, caplog, monkeypatch
):
    """Query and document are longer together than alone; the oracle is what a model without limit reads."""
    candidates = mine(collection, [BM25(6), Random(3)], "train")
    model = load_cross_encoder(cross_encoder_folder, max_length=20, device="cpu")
    if prompt:
        model.prompts, model.default_prompt_name = {"asked": prompt}, "asked"
    whole = CrossEncoder(cross_encoder_folder, device="cpu", max_length=64)
    longer = sum(
        int(whole.preprocess([pair], prompt=prompt)["attention_mask"].sum()) > 20
        for pair in candidates.pairs(0, len(candidates.document_rows))
    )
    alone = sum(len(text.split()) + 2 > 20 for text in collection.documents)
    count = len(candidates.document_rows)
    assert 0 < longer < count and alone < len(collection.documents)
    with caplog.at_level("INFO", logger="rankdistill"):
        for _ in range(2):
            found = cut_inputs(model, candidates, "training pairs")
            assert found == {"training pairs": {"longer": longer, "of": count, "tokens": 20}}
        cut_inputs(model, candidates, "measured pairs", "the teacher")
    (first, second) = (message for message in caplog.messages if "cut" in message)
    assert first.startswith(f"tiny: {longer} of {count} training pairs (")
    assert first.endswith(") are longer than 20 tokens, query and document together, and are cut")
    assert second.startswith(f"tiny, read by the teacher: {longer} of {count} measured pairs (")
    monkeypatch.setattr(lengths, "_token_counts", None)  # from here on the cache knows
    assert cut_inputs(model, candidates)["pairs"]["longer"] == longer
    model.max_seq_length = None
    assert cut_inputs(model, candidates)["pairs"] == {"longer": 0, "of": count, "tokens": None}


def test_a_cross_encoder_says_what_it_cuts_as_a_teacher_and_where_it_is_measured(
    collection, cross_encoder_folder, caplog
):
    candidates = mine(collection, [BM25(6)], "test")
    with caplog.at_level("INFO", logger="rankdistill"):
        score_candidates(CrossEncoderTeacher(cross_encoder_folder, max_length=12), candidates)
        teacher = [message for message in caplog.messages if "are cut" in message]
        caplog.clear()
        Evaluator().evaluate(load_cross_encoder(cross_encoder_folder, max_length=12), collection)
        measured = [message for message in caplog.messages if "are cut" in message]
    assert len(teacher) == len(measured) == 1
    assert teacher[0].startswith("tiny, read by the teacher: ") and " pairs (" in teacher[0]
    assert " measured pairs (" in measured[0]


def test_what_is_cut_is_said_of_each_model(student_folder, caplog):
    """Two that are compared may cut as many of the texts."""
    students = [load_student(student_folder, max_length=10) for _ in range(2)]
    with caplog.at_level("INFO", logger="rankdistill"):
        for student in students:
            cut_texts(student, collection_of(9))
    assert sum("are cut" in message for message in caplog.messages) == 2
