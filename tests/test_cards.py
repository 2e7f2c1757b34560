"""Model cards: a hub reads their head, their snippets run, and they name nothing of this machine."""

import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from sentence_transformers import CrossEncoder, SentenceTransformer

from rankdistill.commands.cards import is_distilled, model_card, private, public
from rankdistill.commands.launch import config_folder
from rankdistill.commands.summary import table as as_table
from rankdistill.evaluation import Evaluator
from rankdistill.retrieval import embed_documents, embed_queries
from rankdistill.runtime.folders import plain
from rankdistill.students import (
    adapter_student,
    asymmetric_student,
    late_interaction_student,
    load_cross_encoder,
    load_student,
    sparse_student,
    static_student,
    vectors_student,
)
from rankdistill.students.lengths import limit_length
from rankdistill.teachers import NoTeacher, score_candidates


def config(name, *overrides):
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return plain(compose(name, list(overrides)))


def snippet(card, folder):
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    found = {}
    exec(code.replace("path/to/this/model", str(folder)), found)
    return found


@pytest.fixture
def base(student_folder, tmp_path):
    """The tiny student as a folder with a card of its own."""
    folder = tmp_path / "secret" / "my_base"
    shutil.copytree(student_folder, folder)
    head = "license: cc-by-4.0\nlanguage:\n- en\n- de\nbase_model: org/bigger"
    (folder / "README.md").write_text(f"---\n{head}\n---\n# Mine\n")
    return folder


def saved(base, beir, table, folder, **more):
    """A student of ``base`` and the card of a run in ``folder``."""
    student = load_student(str(base), device="cpu", **{"max_length": 9} | more)
    result = Evaluator().evaluate(student, table.collection)
    fields = [
        f"student.model={base}",
        "student.max_length=9",
        "data=beir",
        f"data.path={beir}",
        "teacher=dense",
    ]
    text = as_table({"before": result.mean, "after": result.mean})
    student.save_pretrained(str(folder), create_model_card=False)
    card = model_card(
        config("config", *fields), table, student, result.mean, text, ["3 queries: none scored"]
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return student, result, card


def test_a_card_says_what_a_hub_needs_and_names_no_folder(base, beir, table, tmp_path):
    _, result, card = saved(base, beir, table, tmp_path / "a" / "model")
    data = ModelCard.load(tmp_path / "a" / "model" / "README.md").data
    assert (data.license, data.language, data.base_model) == ("cc-by-4.0", ["en", "de"], "org/bigger")
    assert data.model_name == "my_base distilled on tiny" and data.library_name == "sentence-transformers"
    measured = {one.metric_name: one for one in data.eval_results}
    assert {name: one.metric_value for name, one in measured.items()} == dict(result.mean)
    one = measured["nDCG@10"]
    assert (one.metric_type, one.dataset_name, one.dataset_split) == ("ndcg_at_10", "tiny", "test")
    for private_part in (str(tmp_path), str(beir.parent), "/tmp", "secret", "omegaconf", "None", "{'"):
        assert private_part not in card, private_part
    for said in (
        "2604.04734",
        "2505.21058",
        "started from | `my_base`, a local folder",
        " candidates of 16 queries, fingerprint",
        "| maximum length | 9 tokens |",
        "* 3 queries: none scored",
        "nDCG@10",
        table.teacher,
    ):
        assert said in card, said
    fields = yaml.safe_load(re.search(r"```yaml\n(.*?)```", card, re.DOTALL)[1])
    assert fields["data"]["path"] == "tiny" and fields["student"]["model"] == "my_base"
    assert fields["trainer"]["warmup_steps"] == 0.1 and fields["sampler"]["negatives"] == 7
    assert saved(base, beir, table, tmp_path / "b" / "elsewhere")[2] == card, "the same wherever a run lies"


@pytest.mark.parametrize(
    ("overrides", "distilled"),
    [
        ([], True),
        (["+experiment=contrastive"], False),
        (["loss=lce"], False),
        (["loss=infonce", "loss.false_negative_margin=1"], False),
        (["loss.weights.kl=0"], False),
        (["loss.weights.infonce=0"], True),
        (["loss=lce", "+distillation.loss._target_=my_losses.ReverseKL"], True),
    ],
)
def test_a_card_speaks_of_a_teacher_where_a_loss_reads_its_scores(overrides, distilled, base, table):
    given = config("config", f"student.model={base}", *overrides)
    assert is_distilled(given) == distilled
    student = load_student(str(base), device="cpu")
    card = model_card(given, table, student, {"nDCG@10": 0.5}, "")
    assert ("as a slower teacher scores them" in card) == distilled
    filtered = "loss.false_negative_margin=1" in overrides
    assert ("no teacher's scores" in card) == (not distilled and not filtered)
    assert ("scores did no more than leave out negatives" in card) == filtered
    assert ("my_base trained on tiny" in card) == (not distilled)
    assert ("ranking-distillation" in ModelCard(card).data.tags) == distilled


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_the_snippet_of_a_card_ranks_as_the_student_does(
    base, beir, table, tmp_path, similarity, monkeypatch
):
    monkeypatch.setattr(
        "rankdistill.runtime.hardware.has_bf16", lambda: False
    )  # the snippet has full precision
    prompts = {"query": "w1 w2 ", "document": "w3 "}
    student = SentenceTransformer(str(base), device="cpu", prompts=prompts, similarity_fn_name=similarity)
    student.save_pretrained(str(base), create_model_card=False)
    student, _, card = saved(base, beir, table, tmp_path / "model")
    found = snippet(card, tmp_path / "model")
    queries, documents = ["a question"], ["a passage that may answer it", "another one"]
    expected = embed_queries(student, queries) @ embed_documents(student, documents).T
    assert found["scores"].shape == (1, 2)
    assert found["scores"].numpy() == pytest.approx(expected, abs=1e-5)
    assert (
        found["queries"].shape == (1, 16) and "16 dimensions" in card and f"compared by {similarity}" in card
    )
    assert found["model"].max_seq_length == 9
    assert '"w1 w2 " before a query, "w3 " before a document' in card


def test_a_card_names_both_encoders_and_what_is_not_trained(student_folder, table, collection, tmp_path):
    query = load_student(student_folder, max_length=5)
    given = config("config")
    two = asymmetric_student(query, load_student(student_folder, max_length=9))
    card = model_card(given, table, two, {"AP": 0.5}, "")
    assert "| maximum length | 5 tokens of a query, 9 tokens of a document |" in card
    assert "| encoder of queries | Transformer, Pooling |" in card
    assert "| encoder of documents | Transformer, Pooling, not trained |" in card
    card = model_card(given, table, adapter_student(student_folder), {"AP": 0.5}, "")
    assert "| trained | its last module alone, a linear map of vectors |" in card
    for name, texts in (("documents", collection.documents), ("queries", collection.queries)):
        np.save(tmp_path / f"{name}.npy", np.ones((len(texts), 4), np.float32))
    files = {name: tmp_path / f"{name}.npy" for name in ("documents", "queries")}
    student = vectors_student(**files, collection=collection)
    student.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    card = model_card(given, table, student, {"AP": 0.5}, "")
    found = snippet(card, tmp_path / "model")
    assert "# a map of vectors distilled on tiny" in card
    expected = torch.nn.functional.normalize(found["vectors"], dim=1)  # the map is the identity at first
    torch.testing.assert_close(found["mapped"].detach(), expected)


def test_of_two_fields_that_decide_the_same_a_card_has_the_one_that_does(student_folder, table):
    """Steps of both stages are set, beside a number of epochs that comes with the defaults."""
    student = load_student(student_folder, device="cpu")

    def trainers(*overrides):
        card = model_card(config("config", *overrides), table, student, {"AP": 0.5}, "")
        fields = yaml.safe_load(re.search(r"```yaml\n(.*?)```", card, re.DOTALL)[1])
        return fields["warmup"]["trainer"], fields["trainer"]

    warmup, whole = trainers("+experiment=static")
    assert (warmup["num_train_epochs"], warmup["max_steps"]) == (4, -1)
    warmup, whole = trainers("+experiment=static", "warmup.trainer.max_steps=200")
    assert (warmup["max_steps"], whole["max_steps"], whole["save_steps"]) == (200, 800, 200)
    assert "num_train_epochs" not in {*warmup, *whole}
    warmup, whole = trainers("+experiment=static", "trainer.max_steps=-1", "trainer.save_strategy=no")
    assert whole["num_train_epochs"] == 1 and "save_steps" not in whole
    warmup, whole = trainers("++trainer.max_steps=7")
    assert "num_train_epochs" not in {*warmup, *whole}


def made(kind, base):
    """A student made of ``base``, on which its maker says how."""
    folder = str(base)
    if kind == "asymmetric":
        return asymmetric_student(static_student(folder, None), load_student(folder))
    makers = {
        "static": static_student,
        "sparse": sparse_student,
        "late_interaction": late_interaction_student,
        "adapter": adapter_student,
        "cross_encoder": load_cross_encoder,
    }
    more = {"dimensions": 8} if kind in ("static", "late_interaction") else {}
    return makers[kind](folder, **more)


@pytest.mark.parametrize(
    ("kind", "called", "how"),
    [
        (
            "static",
            "Static student",
            "what the model makes of each token alone, centred, in their first 8 principal",
        ),
        ("sparse", "Sparse student", "its transformer with a new head, fitted so that"),
        ("late_interaction", "Late-interaction student", "a new linear map to their 8 principal axes"),
        ("adapter", "Adapter", "it, frozen, and a new linear map of its vectors"),
        ("cross_encoder", "Cross-encoder", "its transformer with a new scoring head, drawn at random"),
        (
            "asymmetric",
            "Asymmetric student",
            "the encoder of documents; that of queries is another (static student: ",
        ),
    ],
)
def test_a_student_that_is_made_of_another_model_is_not_called_it(base, table, kind, called, how, tmp_path):
    """Nor is its start; what the model's own card says, such as the licence, holds for what is made of it."""
    student = made(kind, base)
    given = config("config", f"student={kind}", f"student.model={base}", "student.layers=null")
    card = model_card(given, table, student, {"AP": 0.5}, "")
    data = ModelCard(card).data
    assert data.model_name.startswith(f"{called} from my_base distilled on tiny"), data.model_name
    assert (data.license, data.base_model) == ("cc-by-4.0", "org/bigger")
    (row,) = [line for line in card.splitlines() if line.startswith("| made from |")]
    assert "`my_base`, a local folder" in row and how in row and "| started from" not in card
    assert (
        "`before` is what was made from my_base, as above, before it was trained, not my_base itself" in card
    )
    if kind == "static":  # one that is static already is taken as it is
        student.save_pretrained(str(tmp_path / "own"), create_model_card=False)
        taken = static_student(str(tmp_path / "own"))
        card = model_card(
            given | {"student": {"model": str(tmp_path / "own")}}, table, taken, {"AP": 0.5}, ""
        )
        assert "# own distilled on tiny" in card and "`before` is the model it started from" in card


def test_a_student_of_the_first_layers_says_so_where_it_is_named(base, table):
    given = config("config", f"student.model={base}", "student.layers=1")
    card = model_card(given, table, load_student(str(base), layers=1), {"AP": 0.5}, "")
    assert "# my_base of 1 layer distilled on tiny" in card
    assert (
        "| started from | `my_base`, a local folder (its own base model: `org/bigger`), its first 1 layer |"
        in card
    )
    assert "not my_base itself" in card


def test_what_is_not_known_is_said(student_folder, beir, table, tmp_path):
    """A folder without a card: no licence, no language, no base model that a hub could look for."""
    _, _, card = saved(student_folder, beir, table, tmp_path / "model")
    data = ModelCard.load(tmp_path / "model" / "README.md").data
    assert (data.license, data.language, data.base_model, data.datasets) == (None,) * 4
    assert "Licence: unknown: the base model's card names none. Language: unknown" in card
    assert "| prompts | none |" in card


def test_a_base_model_and_a_dataset_of_a_hub_are_named(student_folder, table):
    student = load_student(student_folder, device="cpu")
    for model, name in (("minilm", "sentence-transformers/all-MiniLM-L6-v2"), ("org/other", "org/other")):
        fields = config("config", f"student.model={model}", "data=hub", "data.name=BeIR/nfcorpus")
        data = ModelCard(model_card(fields, table, student, {"AP": 0.5}, "")).data
        assert data.base_model == name and data.datasets == ["BeIR/nfcorpus"]
        assert data.eval_results[0].dataset_type == "BeIR/nfcorpus"


def test_the_card_of_a_teacher_is_one_to_upload_too(cross_encoder_folder, beir, table, tmp_path):
    model = CrossEncoder(cross_encoder_folder, device="cpu")
    limit_length(model, 20, "it", pair=True)
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    fields = config("finetune_teacher", f"model={cross_encoder_folder}", "data=beir", f"data.path={beir}")
    labels = score_candidates(NoTeacher(), table.candidates)
    card = model_card(fields, labels, model, {"nDCG@10": 0.25}, "| retrieved |")
    data = ModelCard(card).data
    assert data.pipeline_tag == "text-ranking" and data.eval_results[0].metric_value == 0.25
    assert str(beir.parent) not in card and str(cross_encoder_folder) not in card
    assert "`cross_encoder`, a local" in card and "no teacher's scores were in the loss" in card
    found = snippet(card, tmp_path / "model")
    assert sorted(found["order"]) == [0, 1] and found["model"].max_seq_length == 20
    pairs = [("a question", "a passage that may answer it"), ("a question", "another one")]
    assert found["scores"] == pytest.approx(np.asarray(model.predict(pairs)), abs=1e-6)


def test_places_and_secrets_of_a_machine_are_no_part_of_a_card(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "mine").mkdir(parents=True)
    given = {
        "path": "data/mine",
        "home": "~/data",
        "up": "../x/y",
        "hub": "BeIR/nfcorpus",
        "template": "{title}. {text}",
        "inner": [str(tmp_path / "a.csv"), {"hub_token": "hf_abc", "chunk_tokens": 5, "unset": None}],
    }
    assert public(OmegaConf.to_container(OmegaConf.create(given))) == {
        "path": "mine",
        "home": "data",
        "up": "y",
        "hub": "BeIR/nfcorpus",
        "template": "{title}. {text}",
        "inner": ["a.csv", {"chunk_tokens": 5}],
    }
    assert private("/a/b") and not private("minilm")
