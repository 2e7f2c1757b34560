"""Packed texts give what padded ones give, for every kind of model that is packed."""

import copy
from itertools import pairwise

import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import (
    AutoTokenizer,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
)

from rankdistill.students import load_student
from rankdistill.students.fast import packing
from rankdistill.students.fast.chunking import by_length, chunks
from rankdistill.students.fast.packing import NAME, blocks, first_position, pack, packed, tokens_in

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
KINDS = {
    "roberta": lambda n: RobertaModel(RobertaConfig(vocab_size=n, pad_token_id=0, **SIZE)),
    "modernbert": lambda n: ModernBertModel(ModernBertConfig(vocab_size=n, pad_token_id=0, **SIZE)),
    "mpnet": lambda n: MPNetModel(MPNetConfig(vocab_size=n, pad_token_id=1, **SIZE)),
    "distilbert": lambda n: DistilBertModel(
        DistilBertConfig(vocab_size=n, dim=32, n_layers=2, n_heads=4, hidden_dim=64, dropout=0.0)
    ),
}


def features_of(model, texts):
    return dict(model.preprocess(texts))


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
def test_embeddings_and_gradients_are_those_of_padded_texts(student_folder, collection, mode):
    """float32, no dropout; texts of one length and of many, alone and in chunks."""
    student = load_student(student_folder)
    student[1] = Pooling(student[1].embedding_dimension, pooling_mode=mode)
    texts = sorted(collection.documents, key=len)[:40] + ["w1 w2 w3"] * 5
    twin = copy.deepcopy(student)
    first = first_position(student, training=True)
    assert first == 0
    features = features_of(student, texts)
    expected = twin(dict(features))["sentence_embedding"]
    gradient = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))
    expected.backward(gradient)
    found = torch.empty_like(expected)
    with packed(student):
        for rows, chunk in chunks(features, by_length(features), 100, first):
            assert tokens_in(chunk) <= 100 and "attention_mask" not in chunk
            part = student(chunk)["sentence_embedding"]
            part.backward(gradient[rows])
            found[rows] = part.detach()
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-5)
    for one, two in zip(twin.parameters(), student.parameters(), strict=True):
        if one.grad is not None and one.grad.abs().max() > 1e-6:
            torch.testing.assert_close(two.grad, one.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("trained", [(True, True, True), (False, False, True), (False, True, False)])
def test_attention_and_its_gradients_are_those_of_each_text_alone(trained):
    """Lengths that fill blocks, nearly, and not; tokens behind the last text get nothing."""
    bounds = torch.tensor([0, 16, 32, 47, 48, 50, 90], dtype=torch.int32)
    drawn = torch.Generator().manual_seed(0)
    rows = [torch.randn(1, 3, 96, 4, generator=drawn).requires_grad_(kept) for kept in trained]
    twins = [x.detach().clone().requires_grad_(x.requires_grad) for x in rows]
    found, _ = packing.packed_attention(None, *rows, None, cu_seq_lens_q=bounds)
    alone = [
        torch.nn.functional.scaled_dot_product_attention(*(x[:, :, start:end] for x in twins))
        for start, end in pairwise(bounds.tolist())
    ]
    expected = torch.cat([*alone, torch.zeros(1, 3, 6, 4)], dim=2).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    gradient = torch.randn(expected.shape, generator=drawn)
    found.backward(gradient)
    expected.backward(gradient)
    for one, two in zip(rows, twins, strict=True):
        if two.requires_grad:
            torch.testing.assert_close(one.grad, two.grad, atol=1e-6, rtol=1e-5)


def test_a_cross_encoder_scores_packed_pairs_alike(cross_encoder_folder, collection):
    model = CrossEncoder(cross_encoder_folder, device="cpu").eval()
    pairs = list(zip(collection.queries, collection.documents, strict=False))
    features, first = features_of(model, pairs), first_position(model, "scores")
    with torch.no_grad():
        expected = model(dict(features))["scores"]
        with packed(model):
            found = model(pack(features, torch.arange(len(pairs)), first))["scores"]
            again = model(dict(features))["scores"]  # padded ones are none the worse
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=1e-5)
    assert model.transformers_model.config._attn_implementation != NAME


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_another_make_is_packed_rightly_or_not_at_all(student_folder, tmp_path, kind):
    """RoBERTa's positions have an offset, ModernBERT's attention windows, MPNet a bias by distance."""
    tokenizer = AutoTokenizer.from_pretrained(student_folder)
    torch.manual_seed(0)
    KINDS[kind](len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    transformer = Transformer(str(tmp_path))
    model = SentenceTransformer(modules=[transformer, Pooling(32)], device="cpu").eval()
    texts = ["w1 w2 w3", " ".join(f"w{i}" for i in range(150)), "w9"]
    first = first_position(model)
    features = features_of(model, texts)
    with torch.no_grad():
        expected = model(dict(features))["sentence_embedding"]
        if first is not None:
            with packed(model):
                found = model(pack(features, torch.arange(3), first))["sentence_embedding"]
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    assert (first is not None) == (kind in PACKED)


PACKED = {"roberta", "distilbert"}


def test_dropout_in_attention_keeps_training_padded(student_folder):
    student = load_student(student_folder, dropout=0.1)
    assert first_position(student, training=True) is None and first_position(student) == 0


def test_the_gpus_attention_is_asked_for_the_same(monkeypatch):
    """Texts end at the bounds, none is longer than said, and no token is left out."""

    def by_text(query, key, value, bounds, bounds_of_keys, longest, longest_of_keys, *, scale):
        assert bounds.dtype == torch.int32 and bounds[0] == 0 and bounds[-1] == len(query) == len(key)
        assert torch.equal(bounds, bounds_of_keys) and longest == longest_of_keys
        assert int(bounds.diff().max()) <= longest
        pieces = []
        for start, end in pairwise(bounds.tolist()):
            q, k, v = (x[start:end].transpose(0, 1) for x in (query, key, value))
            pieces.append(((scale * q @ k.mT).softmax(dim=-1) @ v).transpose(0, 1))
        return torch.cat(pieces)

    monkeypatch.setattr(packing, "varlen_attn", by_text)
    mask = torch.zeros(3, 40, dtype=torch.long)
    for row, length in enumerate((40, 7, 1)):
        mask[row, :length] = 1
    row = pack({"input_ids": torch.ones_like(mask), "attention_mask": mask}, torch.arange(3), 0)
    query, key, value = torch.randn(3, 1, 2, row["input_ids"].shape[1], 8).unbind(0)
    bounds = {name: row[name] for name in ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")}
    expected, _ = packing.packed_attention(None, query, key, value, None, **bounds)
    tokens = [x.squeeze(0).transpose(0, 1) for x in (query, key, value)]
    found = packing.flash(*tokens, scaling=8**-0.5, **bounds)
    assert found.isfinite().all()
    torch.testing.assert_close(found[:48], expected[0, :48], atol=1e-5, rtol=1e-5)


def test_blocks_hold_texts_of_like_length():
    lengths = [250, 240, 100, 96, 60, 12, 11, 3, 3]
    found = blocks(lengths)
    assert [first for first, _, _ in found[1:]] == [end for _, end, _ in found[:-1]] and found[-1][1] == 9
    for first, end, width in found:
        assert width % 16 == 0 and width >= max(lengths[first:end])
        assert max(lengths[first:end]) <= 1.15 * min(lengths[first:end]) + 16
    assert blocks([7]) == [(0, 1, 16)]


def test_tokens_are_counted_without_padding(student_folder):
    features = features_of(load_student(student_folder), ["w1 w2 w3", "w1"])
    assert tokens_in(features) == tokens_in(pack(features, torch.tensor([1, 0]), 0)) == 8
