"""Means of weights, held against numpy's."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from rankdistill.commands.average import lengths_of, run
from rankdistill.commands.launch import compose
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.runtime.folders import RunFolder
from rankdistill.students import averaged, late_interaction_student, load_student, static_student


def moved(folder, seed, size=0.5):
    """The tiny student, its weights moved at random."""
    model, draw = load_student(folder), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=draw))
    return model


def test_the_mean_of_equal_models_is_the_model_to_the_bit(student_folder):
    model = moved(student_folder, 0)
    for weights in (None, [0.1, 0.2, 0.7]):
        made = averaged([model, moved(student_folder, 0), moved(student_folder, 0)], weights)
        for name, weight in model.state_dict().items():
            assert torch.equal(made.state_dict()[name], weight), name


def test_weights_are_shares_and_integers_are_the_first_ones(student_folder):
    models = [moved(student_folder, seed) for seed in range(2)]
    for number, model in enumerate(models):
        model.register_buffer("count", torch.tensor([number + 5]))
    before = {name: weight.clone() for name, weight in models[0].state_dict().items()}
    made = averaged(models, [3, 1]).state_dict()
    assert made["count"].tolist() == [5]
    for name, weight in before.items():
        assert torch.equal(models[0].state_dict()[name], weight), "the models stay"
        if weight.is_floating_point():
            expected = np.average([m.state_dict()[name].numpy() for m in models], axis=0, weights=[3, 1])
            assert made[name].numpy() == pytest.approx(expected, abs=1e-6)


def test_models_that_are_built_otherwise_are_refused(student_folder):
    whole = load_student(student_folder)
    for fields in ({"layers": 1}, {"prompts": {"query": "q: "}}):
        with pytest.raises(InputError, match="model: number 2 is built, reads or compares otherwise"):
            averaged([whole, load_student(student_folder, **fields)])
    for weights in ([1], [1, -1], [0, 0]):
        with pytest.raises(InputError, match="give one for each of the 2 models, 0 or more"):
            averaged([whole, whole], weights)


@pytest.fixture
def average(student_folder, beir, tmp_path):
    """The command, on four models of which one is far from all."""
    folders = []
    for seed, size in enumerate((0.02, 0.02, 0.02, 3.0)):
        folders.append(tmp_path / f"run_{seed}" / "model")
        moved(student_folder, seed, size).save_pretrained(str(folders[-1]), create_model_card=False)
        (folders[-1].parent / "conditions.json").write_text(json.dumps({"student": "same"}))

    def start(*words):
        data = ("data=beir", f"data.path={beir}", "evaluator.measures=[nDCG@10]")
        models = ",".join(map(str, folders))
        config = compose(f"model=[{models}]", *data, *words, name="average")
        with RunFolder(tmp_path / "soup", config) as folder:
            run(config, folder)
        return folder.path, folders

    return start


def test_the_command_saves_the_mean(average, capsys):
    path, folders = average("weights=[1,1,2,0]")
    saved = (*folders, path / "model")
    states = [SentenceTransformer(str(folder), device="cpu").state_dict() for folder in saved]
    for name, weight in states[-1].items():
        if weight.is_floating_point():
            parts = [state[name].numpy() for state in states[:3]]
            assert weight.numpy() == pytest.approx(np.average(parts, axis=0, weights=[1, 1, 2]), abs=1e-6)
    assert "run_2" in (path / "model" / "README.md").read_text()
    assert average("weights=[1,1,2,0]")[0] == path, "it is there"


def test_the_greedy_mean_is_never_below_the_best_model(average, collection, capsys):
    path, folders = average("greedy=true", "split=train")
    metrics = json.loads((path / "metrics.json").read_text())
    single = {name: values["nDCG@10"] for name, values in metrics.items() if name != "mean"}
    assert len(single) == 4 and metrics["mean"]["nDCG@10"] >= max(single.values())
    measured = Evaluator(["nDCG@10"]).evaluate(load_student(str(path / "model")), collection, "train").mean
    assert measured["nDCG@10"] == pytest.approx(metrics["mean"]["nDCG@10"])
    assert "Kept, of train: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=[]"], "model: give two folders or more"),
        (["greedy=true", "split=test"], "split=test: greedy=true chooses models on it"),
        (
            ["greedy=true", "weights=[1,1,1,1]"],
            "weights: greedy=true gives all that it keeps the same weight",
        ),
    ],
)
def test_what_is_refused(average, words, said, tmp_path):
    with pytest.raises(InputError, match=said):
        average(*words)
    assert not (tmp_path / "soup" / "model").exists()


def test_a_model_that_is_there_already_is_left_alone(average, tmp_path):
    """It may be one of those that are averaged; at the second attempt too."""
    (tmp_path / "soup" / "model").mkdir(parents=True)
    (tmp_path / "soup" / "model" / "config.json").write_text("somebody's own")
    for _ in range(2):
        with pytest.raises(InputError, match="soup/model: is there already, and no run that began here"):
            average()
    assert (tmp_path / "soup" / "model" / "config.json").read_text() == "somebody's own"


def test_models_that_began_differently_are_refused(average, tmp_path):
    (tmp_path / "run_1" / "conditions.json").write_text(json.dumps({"student": "other"}))
    with pytest.raises(InputError, match="run_1/model began as another model than .*run_0/model"):
        average()


@pytest.mark.parametrize("make", [load_student, static_student, late_interaction_student])
def test_models_that_read_other_lengths_have_a_mean_that_reads_as_the_first(student_folder, make):
    size = {} if make is load_student else {"dimensions": 8}
    models = [make(student_folder, max_length=length, **size) for length in (16, 32)]
    for place, model in enumerate(models):
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(place)
    for first, other in (models, models[::-1]):
        made = averaged([first, other])
        assert all((weight == 0.5).all() for weight in made.parameters())
        assert lengths_of(made) == lengths_of(first) != lengths_of(other)


def test_the_command_says_how_much_the_mean_reads(average, tmp_path, caplog):
    folder = str(tmp_path / "run_1" / "model")
    load_student(folder, max_length=16).save_pretrained(folder, create_model_card=False)
    path, folders = average()
    assert "the mean reads 64 tokens of a text, as does run_0/model; run_1/model 16" in caplog.text
    assert load_student(str(path / "model")).max_seq_length == load_student(str(folders[0])).max_seq_length
