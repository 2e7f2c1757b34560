"""Language models that say yes or no of a pair, held against transformers alone, text by text."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config
from transformers import Qwen3ForCausalLM as Qwen3

from rankdistill.candidates import BM25, mine
from rankdistill.errors import InputError
from rankdistill.students.language import logit_score
from rankdistill.teachers import CrossEncoderTeacher, score_candidates

BF16 = "rankdistill.students.cross_encoder.has_bf16"
SHOWN = "<s> say yes or no <end> task : {task} query : {query} document : {document} <end> answer :"
TEMPLATE = SHOWN.format(
    task="{{ messages | selectattr('role', 'eq', 'system') | map(attribute='content') | first "
    "| default('judge') }}",
    query="{{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}",
    document="{{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}",
)
WORDS = "<pad> <unk> <s> <end> yes no say or task : query document answer judge find code".split()
WORDS += list("01234")  # by which sentence-transformers finds where a template ends
WORDS += [f"w{i}" for i in range(300)]
TAIL = 3  # tokens of the template behind the document


def write_model(folder, template=TEMPLATE, words=WORDS):
    """A random Qwen3 of two layers with a tokenizer of whole words; its head is its embeddings."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<end>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=256, **special)
    fast.chat_template = template
    torch.manual_seed(1)
    model = Qwen3(
        Qwen3Config(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            pad_token_id=0,
            eos_token_id=3,
        )
    )
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """As transformers saves it: nothing says that it is a cross-encoder but its template."""
    return write_model(tmp_path_factory.mktemp("language") / "plain")


@pytest.fixture(scope="module")
def saved(plain, tmp_path_factory):
    """As sentence-transformers saves it, with an instruction of its own."""
    model = CrossEncoder(plain, device="cpu", prompts={"code": "find code"}, default_prompt_name="code")
    folder = str(tmp_path_factory.mktemp("language") / "saved")
    model.save_pretrained(folder, create_model_card=False)
    return folder


@pytest.fixture
def float32(monkeypatch):
    monkeypatch.setattr(BF16, lambda: False)


@pytest.fixture
def pairs(collection):
    """Queries and documents of several lengths, so that a batch is padded."""
    documents = [text + " w7" * (5 * i) for i, text in enumerate(collection.documents[:6])]
    return [(query, document) for query in collection.queries[:3] for document in documents]


def oracle(folder, pairs, task="judge", length=None):
    """The logit of yes less that of no behind each text by itself; the template's end is never cut."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    scores = []
    for query, document in pairs:
        ids = tokenizer(SHOWN.format(task=task, query=query, document=document))["input_ids"]
        if length is not None and len(ids) > length:
            ids = ids[: length - TAIL] + ids[-TAIL:]
        with torch.no_grad():
            last = model(torch.tensor([ids])).logits[0, -1]
        scores.append((last[yes] - last[no]).item())
    return np.array(scores)


def score(folder, pairs, *settings, **options):
    return CrossEncoderTeacher(folder, *settings, device="cpu", **options).score(*zip(*pairs, strict=True))


def test_the_score_is_the_logit_of_yes_less_that_of_no(plain, pairs, float32):
    expected = oracle(plain, pairs)
    assert expected.std() > 0.1
    np.testing.assert_allclose(score(plain, pairs), expected, atol=1e-4)


def test_an_instruction_of_its_own_is_read_and_another_takes_its_place(saved, pairs, float32):
    for prompt, task in ((None, "find code"), ("w1 w2", "w1 w2"), ("", "judge")):
        np.testing.assert_allclose(score(saved, pairs, prompt=prompt), oracle(saved, pairs, task), atol=1e-4)


def test_what_is_too_long_loses_the_end_of_the_document_and_not_of_the_template(plain, pairs, float32):
    found = score(plain, pairs, 40)
    np.testing.assert_allclose(found, oracle(plain, pairs, length=40), atol=1e-4)
    assert np.abs(found - oracle(plain, pairs)).max() > 0.01


def test_a_score_depends_neither_on_its_batch_nor_on_the_chunk(saved, pairs, float32):
    together = score(saved, pairs)
    alone = [score(saved, [pair])[0] for pair in pairs[:4]]
    np.testing.assert_allclose(together[:4], alone, atol=1e-5)
    np.testing.assert_allclose(score(saved, pairs, chunk_tokens=64), together, atol=1e-5)


def test_one_token_may_be_all_that_is_read(plain, pairs, tmp_path, float32):
    """As of BGE-reranker-v2-gemma: the logit of yes."""
    transformer = Transformer(plain, transformer_task="text-generation")
    model = CrossEncoder(modules=[transformer, LogitScore(WORDS.index("yes"))], device="cpu")
    model.save_pretrained(str(tmp_path / "one"), create_model_card=False)
    expected = model.predict(pairs, activation_fn=torch.nn.Identity())
    assert np.abs(expected - oracle(plain, pairs)).max() > 0.1
    np.testing.assert_allclose(score(str(tmp_path / "one"), pairs), expected, atol=1e-4)


def test_in_bf16_the_compared_logits_are_float32(saved, pairs, monkeypatch):
    """Near to those of float32, and not on the grid on which bf16 logits lie and tie."""
    monkeypatch.setattr(BF16, lambda: True)
    teacher = CrossEncoderTeacher(saved, device="cpu")
    found = teacher.score(*zip(*pairs, strict=True))
    expected = oracle(saved, pairs, "find code")
    assert 0 < np.abs(found - expected).max() < 0.2 * expected.std()
    assert not np.array_equal(found, torch.from_numpy(found).bfloat16().float().numpy())
    assert teacher.model.dtype == torch.bfloat16
    rounded = teacher.fingerprint
    monkeypatch.setattr(BF16, lambda: False)
    assert rounded == CrossEncoderTeacher(saved, device="cpu").fingerprint


def test_its_fingerprint_is_of_instruction_template_and_tokens_too(plain, saved, tmp_path):
    def made(folder, **options):
        return CrossEncoderTeacher(str(folder), device="cpu", **options).fingerprint

    other_template = shutil.copytree(saved, tmp_path / "template")
    (other_template / "chat_template.jinja").write_text(TEMPLATE.replace("say", "or"))
    other_tokens = shutil.copytree(saved, tmp_path / "tokens")
    config = other_tokens / "1_LogitScore" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"false_token_id": None}))
    found = [made(saved), made(saved, prompt="w1"), made(saved, prompt=""), made(saved, max_length=64)]
    found += [made(other_template), made(other_tokens)]
    assert len(set(found)) == len(found)
    assert made(saved) == made(saved, prompt="find code") == made(plain, prompt="find code")


def test_a_whole_table_is_scored(saved, collection, float32, monkeypatch, tmp_path):
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))
    candidates = mine(collection, [BM25(4)])
    table = score_candidates(CrossEncoderTeacher(saved, device="cpu"), candidates)
    some = list(candidates.pairs(0, 12))
    np.testing.assert_allclose(table.scores[:12], oracle(saved, some, "find code"), atol=1e-4)


def test_how_many_pairs_are_cut_is_said(saved, collection, float32, monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))
    candidates = mine(collection, [BM25(4)])
    pairs = candidates.pairs(0, len(candidates.document_rows))
    sizes = np.array([len(SHOWN.format(task="find code", query=q, document=d).split()) for q, d in pairs])
    limit = int(np.median(sizes))
    score_candidates(CrossEncoderTeacher(saved, limit, device="cpu"), candidates)
    cut = int((sizes > limit).sum())
    assert 0 < cut < len(sizes)
    assert f"{cut} of {len(sizes)} pairs (" in caplog.text
    assert f"are longer than {limit} tokens, query and document together, and are cut" in caplog.text


@pytest.mark.parametrize("template", ["{{ messages[0].content }}", None])
def test_a_model_whose_template_shows_no_pair_is_refused(tmp_path, template):
    """Any language model as it comes; what sentence-transformers would score is an empty text."""
    folder = write_model(tmp_path / "model", template)
    with pytest.raises(InputError, match="is a bi-encoder, and a cross-encoder is needed"):
        CrossEncoderTeacher(folder, device="cpu")


def test_a_saved_template_that_shows_no_pair_is_refused(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(
        "{% for message in messages %}{% if message.role == 'user' %}{{ message.content }}{% endif %}"
        "{% endfor %}"
    )
    with pytest.raises(InputError, match="its chat template has no place for a query and a document; put"):
        CrossEncoderTeacher(str(folder), device="cpu")


@pytest.mark.parametrize("length", [8, 18])
def test_a_length_that_the_template_fills_is_refused(plain, length):
    with pytest.raises(InputError, match=f"max_length={length}: .*chat template.*no word is left"):
        CrossEncoderTeacher(plain, length, device="cpu")


def test_an_instruction_without_a_place_is_refused(tmp_path):
    bare = TEMPLATE[: TEMPLATE.index("{{")] + TEMPLATE[TEMPLATE.index("}}") + 2 :]
    folder = write_model(tmp_path / "model", bare)
    CrossEncoderTeacher(folder, device="cpu")
    with pytest.raises(InputError, match="^prompt='find code': .* without a place for it"):
        CrossEncoderTeacher(folder, device="cpu", prompt="find code")


def test_a_tokenizer_without_yes_and_no_is_refused(tmp_path):
    words = [{"yes": "oui", "no": "non"}.get(word, word) for word in WORDS]
    with pytest.raises(InputError, match="yes and no are one token, 1, to its tokenizer"):
        CrossEncoderTeacher(write_model(tmp_path / "model", words=words), device="cpu")


def test_an_encoder_reads_its_prompt_before_the_query(wide_cross_encoder_folder, float32):
    model = CrossEncoder(wide_cross_encoder_folder, device="cpu")
    assert logit_score(model) is None
    expected = model.predict([("w5 w1", "w2 w3")], activation_fn=torch.nn.Identity())
    found = score(wide_cross_encoder_folder, [("w1", "w2 w3")], prompt="w5 ")
    np.testing.assert_allclose(found, expected, atol=1e-4)
