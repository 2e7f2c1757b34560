"""Cross-encoder students: trained on their logits, measured by reranking, saved for CrossEncoder."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from torch import nn

from rankdistill.candidates import BM25, Random, mine
from rankdistill.commands.launch import compose, make
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.evaluation.run import Run
from rankdistill.losses import InfoNCE, KLDivergence, MarginMSE, RankNet
from rankdistill.retrieval import PairIndex
from rankdistill.samplers import RandomSampler
from rankdistill.students import cross_encoder as students
from rankdistill.students import load_cross_encoder, load_model, merge_adapter
from rankdistill.training import DistillationTrainer, training_arguments
from rankdistill.vocabulary import Batch


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr(students, "has_bf16", lambda: False)


@pytest.fixture
def folder(wide_cross_encoder_folder):
    return wide_cross_encoder_folder


@pytest.fixture
def student(folder):
    return load_cross_encoder(folder, max_length=64, device="cpu")


def trainer_of(student, table, place, loss=None, more=None, **fields):
    defaults = {"per_device_train_batch_size": 4, "bf16": False, "disable_tqdm": True, "learning_rate": 0.01}
    arguments = training_arguments(str(place), **{**defaults, **fields})
    sampler = RandomSampler(1, 3)
    return DistillationTrainer(student, table, sampler, loss or KLDivergence(), arguments, **(more or {}))


def logits(model, pairs):
    return model.predict(list(pairs), activation_fn=nn.Identity(), show_progress_bar=False)


def step(trainer, queries, half=False):
    """The batch of these queries' groups, and the student's scores (B, G) of it."""
    batch = trainer.data_collator([trainer.train_dataset[i] for i in queries])
    ranker = trainer.model.student
    ranker.bf16 = half
    inputs = batch["inputs"]["student"]
    with ranker.training_pass():
        return batch, trainer.model.outputs(Batch(**batch))[0].scores, inputs


@pytest.mark.parametrize("packs", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("chunk_tokens", [1, 100, 100_000])
def test_the_steps_scores_are_the_models_logits(
    student, table, tmp_path, chunk_tokens, packs, monkeypatch, folder
):
    if not packs:
        monkeypatch.setattr(students, "first_position", lambda *_, **__: None)
    trainer = trainer_of(student, table, tmp_path, more={"chunk_tokens": chunk_tokens})
    batch, scores, inputs = step(trainer, range(5))
    assert ("cu_seq_lens_q" in inputs["pairs"][0]) == packs
    assert (len(inputs["pairs"]) == 20) == (chunk_tokens == 1)
    collection, own = table.collection, CrossEncoder(folder, device="cpu")
    for b in range(5):
        query = collection.queries[batch["query_rows"][b]]
        rows = batch["document_rows"][batch["index"][b]].tolist()
        expected = logits(own, [(query, collection.documents[row]) for row in rows])
        np.testing.assert_allclose(scores[b].detach(), expected, atol=1e-5)
    _, alone, _ = step(trainer, [2])
    np.testing.assert_allclose(alone[0].detach(), scores[2].detach(), atol=1e-5)


def test_bf16_differs_by_its_rounding_alone_and_the_head_is_exact(student, table, tmp_path):
    trainer = trainer_of(student, table, tmp_path)
    seen = []
    handle = student.transformers_model.classifier.register_forward_hook(
        lambda module, inputs, output: seen.append((inputs[0].dtype, output.dtype))
    )
    _, exact, _ = step(trainer, range(4))
    _, rounded, _ = step(trainer, range(4), half=True)
    handle.remove()
    assert 1e-4 < (exact - rounded).abs().max() < 0.2 * exact.std()
    assert set(seen) == {(torch.float32, torch.float32)}
    assert not student.transformers_model.classifier._forward_pre_hooks


def test_groups_of_unlike_size_leave_the_rest_alone(student, table, tmp_path):
    trainer = trainer_of(student, table, tmp_path)
    groups = [trainer.train_dataset[i] for i in range(2)]
    fields = {name: getattr(groups[0], name)[:2] for name in ("document_rows", "teacher", "positive")}
    groups[0] = dataclasses.replace(groups[0], **fields)
    batch = trainer.data_collator(groups)
    scores = trainer.model.outputs(Batch(**batch))[0].scores
    _, whole, _ = step(trainer, range(2))
    np.testing.assert_allclose(scores[0, :2].detach(), whole[0, :2].detach(), atol=1e-5)
    np.testing.assert_allclose(scores[1].detach(), whole[1].detach(), atol=1e-5)
    assert scores[0, 2:].tolist() == [0, 0]


@pytest.mark.parametrize("loss", [KLDivergence(), MarginMSE(), RankNet(), InfoNCE(in_batch=False)])
def test_a_gradient_reaches_every_parameter_and_grad_cache_changes_none(student, table, tmp_path, loss):
    found = []
    for cached in (False, True):
        more = {"grad_cache": cached, "teacher_scale": 1.0, "chunk_tokens": 100}
        trainer = trainer_of(student, table, tmp_path, loss, more)
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
        student.zero_grad()
        with trainer.model.student.training_pass():
            trainer.model(**batch)[0].backward()
        found.append({name: weight.grad.clone() for name, weight in student.named_parameters()})
    for name, gradient in found[0].items():
        unused = any(part in name for part in ("_type", "key.bias", "classifier.bias"))
        assert gradient.abs().sum() > 0 or unused, name  # of a bias that softmax cancels, or a type
        torch.testing.assert_close(gradient, found[1][name])


def test_another_encoder_gets_a_head_that_the_seed_draws(student_folder, caplog):
    with caplog.at_level("INFO"):
        torch.manual_seed(3)
        one = load_cross_encoder(student_folder, device="cpu", max_length=20, layers=1)
        torch.manual_seed(3)
        two = load_cross_encoder(student_folder, device="cpu")
    assert caplog.text.count("begins with a random one") == 2
    name = "0.model.classifier.weight"
    assert torch.equal(one.state_dict()[name], two.state_dict()[name])
    assert one.max_seq_length == 20 and one.transformers_model.config.num_hidden_layers == 1
    assert isinstance(load_model(student_folder), type(load_model(student_folder)))


def test_candidates_are_reranked_by_the_models_logits(student, collection, folder):
    """By default those of BM25; a pair that was scored is not scored again."""
    own, evaluator = CrossEncoder(folder, device="cpu"), Evaluator(["nDCG@5", "RR@5"], k=7)
    pools = mine(collection, [BM25(6), Random(3)], "test")
    for given in (None, pools):
        candidates = given or mine(collection, [BM25(7)], "test")
        scored = {}
        for i, row in enumerate(candidates.query_rows):
            span = candidates.pool(i)
            found = ~candidates.positive[span] | (candidates.ranks["bm25"][span] < 65535)
            rows = candidates.document_rows[span][found]
            scores = logits(own, [(collection.queries[row], collection.documents[d]) for d in rows])
            ids = [collection.document_ids[d] for d in rows]
            scored[collection.query_ids[row]] = dict(zip(ids, scores.tolist(), strict=True))
        expected = Run.from_scores(scored, "oracle")
        result = evaluator.evaluate(student, collection, "test", candidates=given)
        for query, ranked in expected.ranking.items():
            assert [d for d, _ in result.run.ranking[query]] == [d for d, _ in ranked[:7]]
        assert result.mean == evaluator.measure(expected, collection).mean and result.run.name == "student"
    index, asked = PairIndex(student, collection.documents), []
    score = index.score
    index.score = lambda queries, documents: asked.extend(queries) or score(queries, documents)
    table = index.table(pools)
    n = len(asked)
    np.testing.assert_array_equal(index.table(pools).scores, table.scores)
    assert len(asked) == n <= len(table.scores)


@pytest.mark.parametrize(
    ("more", "loss", "message"),
    [
        ({"scale": 20.0}, None, "scale=20.0: a cross-encoder's scores are its logits"),
        ({"similarity": "cosine"}, None, "similarity=cosine: a cross-encoder has no embeddings"),
        (
            {},
            InfoNCE(in_batch=True),
            "InfoNCE reads in_batch, which the student, CrossEncoder, does not",
        ),
    ],
)
def test_what_a_cross_encoder_has_no_use_for_is_refused(student, table, tmp_path, more, loss, message):
    with pytest.raises(InputError, match=message):
        trainer_of(student, table, tmp_path, loss, more)


def test_it_searches_nothing_and_has_no_index(student, collection):
    with pytest.raises(InputError, match="evaluator.index=HNSW32: a cross-encoder"):
        Evaluator(index="HNSW32").evaluate(student, collection)
    with pytest.raises(InputError, match="it reranks candidates|reranks candidates"):
        PairIndex(student, collection.documents).search(["w1"], 3)


def test_a_new_head_is_not_matched_in_silence(student_folder, table, tmp_path, caplog):
    student = load_cross_encoder(student_folder, device="cpu")
    with torch.no_grad():
        student.transformers_model.classifier.weight.mul_(1e-3)
    trainer_of(student, table, tmp_path, max_steps=1).train()
    assert any("give teacher_scale=1" in message for message in caplog.messages)


def test_a_folder_is_measured_on_bm25s_candidates(folder, beir, tmp_path):
    from rankdistill.commands.evaluate import run
    from rankdistill.runtime.folders import RunFolder

    config = compose("data=beir", f"data.path={beir}", f"model={folder}", name="evaluate")
    with RunFolder(tmp_path / "run", config) as place:
        value = run(config, place)
    expected = Evaluator().evaluate(load_model(folder), make(config.data))
    assert value == expected.mean["nDCG@10"]


def test_a_head_may_be_missing_but_no_layer(student_folder, tmp_path, caplog):
    load_cross_encoder(student_folder, device="cpu")
    assert "MISSING" not in caplog.text
    shutil.copytree(student_folder, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layer.1." not in name}
    save_file(kept, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="lacks weights that its config.json names"):
        load_cross_encoder(str(tmp_path / "model"), device="cpu")


def test_lora_trains_few_weights_and_the_head_and_merges_into_a_plain_model(table, folder, tmp_path):
    """What is saved holds no adapter, and scores the same."""
    student = load_cross_encoder(folder, device="cpu", lora={"r": 2})
    trained = {name for name, weight in student.named_parameters() if weight.requires_grad}
    assert all("lora_" in name or "classifier" in name for name in trained)
    assert {name.rpartition(".")[2] for name in trained if "classifier" in name} == {"weight", "bias"}
    before = {name: weight.clone() for name, weight in student.state_dict().items()}
    trainer_of(student, table, tmp_path, max_steps=3, more={"teacher_scale": 1.0}).train()
    for name, weight in student.state_dict().items():
        assert name in trained or torch.equal(weight, before[name]), name
    pairs = [
        (query, text) for query in table.collection.queries[:3] for text in table.collection.documents[:9]
    ]
    adapted = logits(student, pairs)
    assert not np.allclose(adapted, logits(CrossEncoder(folder, device="cpu"), pairs), atol=1e-3)
    merge_adapter(student)
    np.testing.assert_allclose(logits(student, pairs), adapted, atol=1e-5)
    student.save_pretrained(str(tmp_path / "merged"), create_model_card=False)
    assert not list((tmp_path / "merged").glob("**/adapter*"))
    np.testing.assert_allclose(
        logits(CrossEncoder(str(tmp_path / "merged"), device="cpu"), pairs), adapted, atol=1e-5
    )
