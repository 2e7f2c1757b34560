"""What a step trains is what is measured and saved, for every kind of model and of what is around it."""

import numpy as np
import pytest
import torch
import transformers
from conftest import tiny_tokenizer
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router
from sentence_transformers.sentence_transformer.modules import (
    LayerNorm,
    Pooling,
    StaticEmbedding,
    Transformer,
)

from rankdistill.candidates import Dense as DenseRetriever
from rankdistill.candidates import mine
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.losses import KLDivergence
from rankdistill.retrieval import embed_documents, embed_queries
from rankdistill.samplers import RandomSampler
from rankdistill.students import load_student, merge_adapter
from rankdistill.students.lengths import cut_texts
from rankdistill.students.prompts import prompt_of
from rankdistill.teachers import DenseTeacher
from rankdistill.training import DistillationTrainer, training_arguments
from rankdistill.vocabulary import Batch

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
BERT = SIZE | {"max_position_embeddings": 32, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
DECODER = SIZE | {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 32}
KINDS = {  # the class in transformers, its configuration, how its tokens are pooled
    "Bert": (BERT, "mean"),
    "Roberta": (BERT, "cls"),
    "XLMRoberta": (BERT, "mean"),
    "Camembert": (BERT, "mean"),
    "MPNet": (BERT, "mean"),
    "Longformer": (BERT | {"attention_window": 4}, "mean"),
    "Albert": (BERT | {"embedding_size": 8}, "max"),
    "Electra": (BERT | {"embedding_size": 8}, "cls"),
    "DebertaV2": (BERT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, "mean"),
    "DistilBert": ({"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "dropout": 0.0}, "mean"),
    "ModernBert": (SIZE | {"local_attention": 8}, "mean"),
    "T5Encoder": ({"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}, "mean"),
    "Qwen3": (DECODER, "lasttoken"),
}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """Makes a model's folder, once: its transformer, pooling and what comes after it."""
    made = {}

    def make(kind="Bert", pooling=None, *after, **settings):
        key = kind, pooling, after, str(settings)
        if key not in made:
            fields, usual = KINDS[kind]
            torch.manual_seed(0)
            name = kind.removesuffix("Encoder")
            tokens = dict.fromkeys(("pad_token_id", "bos_token_id"), 0) | {"eos_token_id": 3}
            config = getattr(transformers, f"{name}Config")(vocab_size=205, **tokens, **fields)
            folder = tmp_path_factory.mktemp(kind)
            getattr(transformers, f"{kind}Model")(config).save_pretrained(folder / "plain")
            tokenizer = tiny_tokenizer()
            tokenizer.padding_side = "left" if kind == "Qwen3" else "right"
            tokenizer.save_pretrained(folder / "plain")
            modules = [
                Transformer(str(folder / "plain")),
                Pooling(16, pooling or usual),
                *(m() for m in after),
            ]
            SentenceTransformer(modules=modules, device="cpu", **settings).save_pretrained(
                str(folder / "model"), create_model_card=False
            )
            made[key] = str(folder / "model")
        return made[key]

    return make


def step_equals_encode(trainer, collection):
    """The step's embeddings against sentence-transformers' own, by rows."""
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(6)])
    with torch.no_grad():
        made = trainer.model.eval().outputs(Batch(**batch))[0]
    queries, documents = made.queries.vectors, made.documents.vectors
    student, unit = trainer.student, trainer.similarity == "cosine"
    for kind, made, rows in (
        ("query", queries, batch["query_rows"]),
        ("document", documents, batch["document_rows"]),
    ):
        texts = collection.queries if kind == "query" else collection.documents
        encode = student.encode_query if kind == "query" else student.encode_document
        expected = encode([texts[row] for row in rows.tolist()], normalize_embeddings=unit)
        np.testing.assert_allclose(made, expected, atol=1e-5)


def promises(student, table, folder, **scores):
    """Step = encode; before = after at learning rate 0; saved = loaded."""
    collection = table.collection
    for kind, texts in (("query", collection.queries), ("document", collection.documents)):
        prompt = len((prompt_of(student, kind) or "").split())
        special = student.tokenizer.num_special_tokens_to_add()
        longer = sum(prompt + len(text.split()) + special > student.max_seq_length for text in texts)
        counted = cut_texts(student, collection)["queries" if kind == "query" else "documents"]
        assert counted == {"longer": longer, "of": len(texts), "tokens": student.max_seq_length}
        read = student.preprocess(list(texts), prompt=prompt_of(student, kind))["input_ids"]
        assert read.shape[1] <= student.max_seq_length
    similarity = student.similarity_fn_name
    before = Evaluator(k=20).evaluate(student, collection)
    arguments = training_arguments(
        str(folder), per_device_train_batch_size=8, learning_rate=0.0, bf16=False, disable_tqdm=True
    )
    trainer = DistillationTrainer(student, table, RandomSampler(1, 3), KLDivergence(), arguments, **scores)
    assert student.similarity_fn_name == similarity
    step_equals_encode(trainer, collection)
    trainer.train()
    merge_adapter(student)
    after = Evaluator(k=20).evaluate(student, collection)
    assert after.per_query == before.per_query
    assert after.run.ranking == before.run.ranking
    student.save_pretrained(str(folder / "saved"), create_model_card=False)
    loaded = SentenceTransformer(str(folder / "saved"), device="cpu")
    assert loaded.similarity_fn_name == student.similarity_fn_name
    for embed, texts in ((embed_queries, collection.queries), (embed_documents, collection.documents)):
        np.testing.assert_allclose(embed(loaded, texts), embed(student, texts), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_transformer(folder_of, table, tmp_path, kind):
    promises(load_student(folder_of(kind), max_length=14), table, tmp_path)


@pytest.mark.parametrize(
    ("folder", "loading"),
    [
        ({"truncate_dim": 4}, {}),
        ({"truncate_dim": 4, "similarity_fn_name": "dot"}, {}),
        ({"similarity_fn_name": "dot"}, {}),
        ({"prompts": {"query": "w1 w2 ", "document": "w3 "}}, {}),
        ({"prompts": {"web": "w7 "}, "default_prompt_name": "web"}, {}),
        ({}, {"prompts": {"query": "w1 w2 ", "document": "w3 "}}),
        ({}, {"layers": 1}),
        ({}, {"lora": {"r": 2}}),
        ({}, {"max_length": 5}),
        ({}, {"max_length": None, "dropout": None}),
    ],
    ids=str,
)
def test_everything_that_is_set_of_a_model(folder_of, table, tmp_path, folder, loading):
    promises(load_student(folder_of(**folder), **loading), table, tmp_path)


@pytest.mark.parametrize(
    "after",
    [
        (Normalize,),
        (lambda: Dense(16, 6),),
        (lambda: LayerNorm(16), Normalize),
    ],
    ids=["normalize", "dense", "layer norm"],
)
@pytest.mark.parametrize("pooling", ["mean", "lasttoken"])
def test_what_comes_after_the_tokens(folder_of, table, tmp_path, pooling, after):
    promises(load_student(folder_of("Bert", pooling, *after)), table, tmp_path)


@pytest.mark.parametrize("kind", ["Bert", "Qwen3"])
def test_a_prompt_that_is_not_pooled(folder_of, table, tmp_path, kind):
    student = load_student(folder_of(kind), prompts={"query": "w1 w2 ", "document": "w3 "})
    student.set_pooling_include_prompt(False)
    promises(student, table, tmp_path)


def test_an_explicit_similarity_is_warned_of_and_kept(folder_of, table, tmp_path, caplog):
    student = load_student(folder_of("Bert", similarity_fn_name="dot"))
    arguments = training_arguments(str(tmp_path), bf16=False, disable_tqdm=True, max_steps=1)
    trainer = DistillationTrainer(
        student, table, RandomSampler(1, 3), KLDivergence(), arguments, similarity="cosine"
    )
    assert "the student compares by dot; it is trained and saved to compare by cosine" in caplog.text
    assert student.similarity_fn_name == "dot"
    trainer.train()
    assert student.similarity_fn_name == "cosine"


def test_a_student_that_compares_by_distance_is_refused(folder_of, table, tmp_path):
    student = load_student(folder_of("Bert", similarity_fn_name="euclidean"))
    with pytest.raises(InputError, match="compares by euclidean; set it to cosine or dot"):
        DistillationTrainer(student, table, RandomSampler(1, 3), KLDivergence())


def test_a_trainer_leaves_the_student_as_it_was(folder_of, table, tmp_path):
    """Until it trains; and after that its attention and mode are those of before."""
    student = load_student(folder_of("Bert", similarity_fn_name="dot"))

    def state():
        hooks = [len(module._forward_hooks) for module in student.modules()]
        return student.config._attn_implementation, student.similarity_fn_name, student.training, hooks

    before = state()
    arguments = training_arguments(str(tmp_path), bf16=False, disable_tqdm=True, max_steps=1)
    trainer = DistillationTrainer(student, table, RandomSampler(1, 3), KLDivergence(), arguments)
    assert trainer.data_collator.student.prepare.first_position == 0  # packed while it trains
    assert state() == before
    trainer.train()
    student.train()  # it is left to be used
    assert state() == before


def static(**settings):
    torch.manual_seed(0)
    return SentenceTransformer(
        modules=[StaticEmbedding(tiny_tokenizer().backend_tokenizer, embedding_dim=16)],
        device="cpu",
        **settings,
    )


def routed(folder_of):
    sides = [SentenceTransformer(folder_of(kind), device="cpu") for kind in ("Bert", "Roberta")]
    router = Router.for_query_document(*([side[0], side[1]] for side in sides))
    return SentenceTransformer(modules=[router], device="cpu"), sides


def test_static_embeddings_are_measured_and_mine_like_any_other(collection, tmp_path):
    static().save_pretrained(str(tmp_path / "model"), create_model_card=False)
    student = load_student(str(tmp_path / "model"), max_length=8)
    weights, vocabulary = student[0].embedding.weight.detach().numpy(), tiny_tokenizer().get_vocab()
    means = [[weights[vocabulary[w]] for w in text.split()[:8]] for text in collection.documents]
    expected = np.array([np.mean(words, axis=0) for words in means])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embed_documents(student, collection.documents), expected, atol=1e-6)
    found = Evaluator(k=5).evaluate(student, collection).run.ranking
    queries = embed_queries(student, collection.queries)
    for row in collection.query_rows("test"):
        best = collection.document_ids[int(np.argmax(expected @ queries[row]))]
        assert found[collection.query_ids[row]][0][0] == best
    pools = mine(collection, [DenseRetriever(student, 5)], "train")
    assert len(pools.document_rows) >= 5 * 16
    teacher = DenseTeacher(str(tmp_path / "model"), scale=2.0, max_length=8)
    scores = teacher.score(collection.queries[:3], collection.documents[:3])
    np.testing.assert_allclose(scores, 2 * (queries[:3] * expected[:3]).sum(1), atol=1e-5)


def test_a_router_is_measured_by_both_of_its_sides(folder_of, collection, monkeypatch):
    monkeypatch.setattr("rankdistill.runtime.hardware.has_bf16", lambda: False)  # encode has full precision
    student, sides = routed(folder_of)
    for embed, encode, texts in (
        (embed_queries, sides[0].encode, collection.queries),
        (embed_documents, sides[1].encode, collection.documents),
    ):
        expected = encode(list(texts), normalize_embeddings=True)
        np.testing.assert_allclose(embed(student, texts), expected, atol=1e-5)
