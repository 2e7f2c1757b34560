import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from rankdistill.students.fast import pair_tokens as pairs
from rankdistill.students.fast.pair_tokens import PairTokenizer, same, truncated

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def byte_tokenizer(post_processor):
    """A token a byte, with the special tokens of RoBERTa."""
    vocabulary = {token: i for i, token in enumerate(SPECIAL + LETTERS)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = post_processor
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def roberta():
    """Two separators, no token types."""
    tokenizer = byte_tokenizer(processors.RobertaProcessing(("</s>", 2), ("<s>", 0)))
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def deberta():
    """Token types, of the separators too."""
    tokenizer = byte_tokenizer(
        processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s>:1 $A </s> $B:1 </s>:0", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


FAMILIES = {"bert": tiny_tokenizer, "roberta": roberta, "deberta": deberta}
TOKENISERS = {}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Name of a family -> a random cross-encoder with its tokenizer."""
    made = {}
    for name, tokenizer in FAMILIES.items():
        folder = tmp_path_factory.mktemp("models") / "model"
        config = tiny_config()
        if name in ("roberta", "deberta"):
            config = RobertaConfig(**(config.to_dict() | {"vocab_size": 300, "type_vocab_size": 2}))
        config.num_labels = 1
        kind = RobertaForSequenceClassification if name in ("roberta", "deberta") else None
        (kind or BertForSequenceClassification)(config).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        made[name] = CrossEncoder(str(folder), num_labels=1, device="cpu")
    return made


def of_length(model, max_length):
    model.max_seq_length = max_length
    return model


TEXTS = st.one_of(
    st.text(max_size=60),
    st.text("ab w1_\t\n.", max_size=200),
    st.lists(st.sampled_from(["w1", "w2", "[SEP]", "</s>", "<s>", "", "W3", "é", "你好"]), max_size=60).map(
        " ".join
    ),
)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6), max_length=st.sampled_from([9, 10, 64])
)
def test_features_are_the_models_own(encoders, name, found, max_length):
    """Ids, types and mask to the bit, whatever the texts hold and wherever they are cut."""
    model = of_length(encoders[name], max_length)
    tokenise = TOKENISERS.get((name, max_length)) or PairTokenizer(model)
    TOKENISERS[name, max_length] = tokenise
    assert tokenise._template is not None
    for batch in (found, found[::-1]):  # the second from what was kept
        assert same(tokenise(batch), dict(model.preprocess(batch)))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("max_length", [16, 17])
def test_pairs_of_all_lengths_are_cut_alike(encoders, name, max_length):
    model = of_length(encoders[name], max_length)
    tokenise = PairTokenizer(model)
    found = [("a " * n, "b " * m) for n in range(14) for m in range(14)]
    assert same(tokenise(found), dict(model.preprocess(found)))


def test_longest_first_keeps_the_shorter_text():
    kept = [truncated(3, 4, 10), truncated(2, 30, 10), truncated(30, 2, 10)]
    assert kept == [(3, 4), (2, 8), (8, 2)]
    assert [truncated(30, 31, 11), truncated(31, 30, 11), truncated(30, 30, 11)] == [(5, 6), (6, 5), (5, 6)]


@pytest.mark.parametrize("side", ["padding_side", "truncation_side"])
def test_an_unusual_tokenizer_is_left_to_the_model(encoders, monkeypatch, side):
    model = of_length(encoders["bert"], 16)
    monkeypatch.setattr(model.tokenizer, side, "left")
    tokenise = PairTokenizer(model)
    found = [("w1 w2", "w3 " * 40), ("w1", "w4")]
    assert tokenise._template is None
    assert same(tokenise(found), dict(model.preprocess(found)))


def test_a_limit_that_the_special_tokens_fill_is_left_to_the_model(encoders):
    assert PairTokenizer(of_length(encoders["bert"], 3))._template is None


def test_a_text_is_tokenised_once(encoders, monkeypatch):
    """A query's candidates are in several blocks, a document in many pools."""
    tokenise, asked = PairTokenizer(of_length(encoders["bert"], 64)), []
    backend = tokenise.tokenizer.backend_tokenizer

    class Counting:
        def __getattr__(self, name):
            return getattr(backend, name)

        def encode_batch(self, texts, **options):
            asked.extend(texts)
            return backend.encode_batch(texts, **options)

    monkeypatch.setattr(type(tokenise.tokenizer), "backend_tokenizer", Counting())
    tokenise([("w1", "w2"), ("w1", "w3")])
    tokenise([("w1", "w4"), ("w5", "w2")])
    assert sorted(asked) == ["w1", "w2", "w3", "w4", "w5"]


def test_what_is_kept_is_bounded(encoders, monkeypatch):
    monkeypatch.setattr(pairs, "KEPT_TOKENS", 5)
    model = of_length(encoders["bert"], 64)
    tokenise = PairTokenizer(model)
    found = [[(f"w{i}", f"w{i + 1} w{i + 2}")] for i in range(20)]
    for batch in found:
        assert same(tokenise(batch), dict(model.preprocess(batch)))
        assert len(tokenise._kept) <= 6


def test_features_of_another_type_are_not_the_same():
    one = {"input_ids": torch.ones(2, 3, dtype=torch.int64), "modality": "text"}
    assert same(one, dict(one))
    assert not same(one, {**one, "input_ids": one["input_ids"].int()})
    assert not same(one, {**one, "input_ids": torch.from_numpy(np.zeros((2, 3), np.int64))})
    assert not same(one, {"input_ids": one["input_ids"]})
