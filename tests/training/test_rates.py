"""Learning rates that are searched: which are tried, which one is taken, and what is kept of it."""

import json
import math
import shutil

import pytest
from safetensors.torch import load_file

from rankdistill.commands.train import compose, distil
from rankdistill.errors import InputError
from rankdistill.runtime.environment import cache_folder
from rankdistill.training import training_arguments
from rankdistill.training.arguments import steps_of
from rankdistill.training.rates import FACTOR, kept_rates, search

RATES = "learning rates"
WATCHED = ["trainer.eval_strategy=steps", "trainer.eval_steps=1", "trainer.eval_on_start=true"]
SEARCHING = ["warmup=none", "trainer.learning_rate=auto", "evaluation.dev_queries=4"]


def peak(at):
    """A measure that falls off on either side of the rate ``at``, in orders of magnitude."""
    return lambda rate: -abs(math.log10(rate / at))


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (1e-3, [1e-3, 3.2e-4, 3.2e-3]),  # in the middle: three are enough
        (3e-3, [1e-3, 3.2e-4, 3.2e-3, 1e-2]),
        (1e-4, [1e-3, 3.2e-4, 3.2e-3, 1e-4, 3.2e-5]),
        (1.0, [1e-3, 3.2e-4, 3.2e-3, 1e-2, 3.2e-2, 1e-1, 3.2e-1]),  # no further than seven
    ],
)
def test_rates_are_tried_until_the_best_is_between_two(best, tried):
    seen = []
    found = search(lambda rate: seen.append(rate) or peak(best)(rate), 1e-3)
    assert seen == tried
    assert next(iter(found)) == max(tried, key=peak(best))
    assert found == {rate: peak(best)(rate) for rate in tried}


def test_of_equal_rates_the_lowest_is_taken():
    """Where no rate changes anything, the search goes down and no further than seven."""
    found = search(lambda rate: 0.5, 1e-3)
    assert len(found) == 7 and next(iter(found)) == min(found) == pytest.approx(1e-3 / FACTOR**5, rel=0.1)


def test_while_none_is_better_than_the_start_lower_ones_are_tried():
    """As on nfcorpus: all rates that move the student make it worse, one of them a little less."""
    values = {1e-3: 0.279, 3.2e-4: 0.278, 3.2e-3: 0.282, 1e-4: 0.285, 3.2e-5: 0.295, 1e-5: 0.294}
    assert next(iter(search(values.__getitem__, 1e-3, before=0.29))) == 3.2e-5
    assert next(iter(search(lambda rate: values.get(rate, 0.27), 1e-3))) == 3.2e-3, "a peak between two"


def test_steps_are_counted_as_the_trainer_counts(tmp_path):
    fields = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "num_train_epochs": 3}
    assert steps_of(training_arguments(str(tmp_path), **fields), 13) == 3 * 3
    assert steps_of(training_arguments(str(tmp_path), max_steps=7, **fields), 13) == 7


def test_a_run_searches_and_says_what_it_tried(small_job, tmp_path, caplog):
    """The run itself is as one whose rate was given; the student is untouched by what was tried."""
    with caplog.at_level("INFO"):
        distil(compose(*small_job, *SEARCHING, *WATCHED), tmp_path / "run")
    conditions = json.loads((tmp_path / "run" / "conditions.json").read_text())
    rates = {float(rate): value for rate, value in conditions[RATES]["distillation"]["rates"].items()}
    rate = next(iter(rates))
    assert conditions[RATES]["distillation"]["seed"] == 0
    assert len(rates) >= 3 and rates[rate] == max(rates.values())
    said = next(text for text in caplog.messages if "steps each, nDCG@10 on the dev queries" in text)
    assert said.startswith(f"distillation: learning rate {rate:g}; after 2 steps each")
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    measured = [row["eval_nDCG@10"] for row in history if "eval_nDCG@10" in row]
    assert measured[-1] == rates[rate]  # what was tried is what the run then does
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert f"Learning rate of distillation: {rate:g}, the best of {len(rates)} on the dev queries." in card
    assert min(rates.values()) > -math.inf
    given = [*SEARCHING[:1], f"trainer.learning_rate={rate}", SEARCHING[2]]
    distil(compose(*small_job, *given, *WATCHED), tmp_path / "given")
    files = [tmp_path / name / "model" / "model.safetensors" for name in ("run", "given")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_resumed_run_searches_no_more(small_job, tmp_path, monkeypatch):
    config = compose(*small_job, *SEARCHING)
    distil(config, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def stop(*_, **__):
            raise KeyboardInterrupt

        patch.setattr("rankdistill.training.stages.resume", stop)
        distil(config, tmp_path / "again")
    kept = kept_rates(tmp_path / "again" / "checkpoints" / "distillation")
    assert kept is not None
    shutil.rmtree(cache_folder() / "rates")  # what the run keeps itself is enough
    monkeypatch.setattr("rankdistill.training.rates.search", None)
    distil(config, tmp_path / "again")
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "again")]
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())
    conditions = json.loads((tmp_path / "again" / "conditions.json").read_text())
    found = conditions[RATES]["distillation"]["rates"]
    assert {float(rate): value for rate, value in found.items()} == kept.of


def test_another_seed_takes_what_the_first_one_found(small_job, tmp_path, monkeypatch, caplog):
    """It trains as one to which that rate was given; another setting searches for itself."""

    def job(name, *words):
        distil(compose(*small_job, SEARCHING[0], SEARCHING[2], *WATCHED, *words), tmp_path / name)
        return tmp_path / name

    first = job("first", SEARCHING[1])
    with monkeypatch.context() as patch, caplog.at_level("INFO"):
        patch.setattr("rankdistill.training.rates.search", None)
        second = job("second", SEARCHING[1], "seed=1")
        with pytest.raises(TypeError):
            job("other", SEARCHING[1], "sampler=random")
    found = [json.loads((run / "conditions.json").read_text())[RATES] for run in (first, second)]
    assert found[0] == found[1] and found[1]["distillation"]["seed"] == 0
    rate = next(iter(found[1]["distillation"]["rates"]))
    assert any(f"learning rate {float(rate):g}, searched with seed 0" in text for text in caplog.messages)
    assert "on the dev queries with seed 0." in (second / "model" / "README.md").read_text(encoding="utf-8")
    given = job("given", f"trainer.learning_rate={rate}", "seed=1")
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (second, given)]
    assert weights[0] == weights[1]


def test_what_is_kept_is_read_or_named(tmp_path):
    assert kept_rates(tmp_path) is None
    for text in (
        '{"rates": {"fast": 1}, "seed": 0}',
        '{"rates": {}, "seed": 0}',
        '{"rates": {"1e-3": 1}}',
        "[]",
    ):
        (tmp_path / "rates.json").write_text(text)
        with pytest.raises(InputError, match="rates.json: damaged .*; delete .*rates.json to search again"):
            kept_rates(tmp_path)


def test_rates_need_queries_to_be_compared_on(small_job, tmp_path):
    with pytest.raises(InputError, match="^trainer.learning_rate=auto: no queries to compare rates on; give"):
        distil(compose(*small_job, *SEARCHING[:2]), tmp_path / "run")
    with pytest.raises(InputError, match="^trainer.learning_rate='fast'"):
        distil(compose(*small_job, SEARCHING[0], "trainer.learning_rate=fast"), tmp_path / "run")


def test_a_stage_of_its_own_may_search(small_job, tmp_path):
    words = ["warmup=infonce", "warmup.sampler.negatives=2", "+warmup.trainer.learning_rate=auto"]
    words += ["warmup.trainer.per_device_train_batch_size=4", SEARCHING[2]]
    distil(compose(*small_job, *words), tmp_path / "run")
    conditions = json.loads((tmp_path / "run" / "conditions.json").read_text())
    assert list(conditions[RATES]) == ["warmup"]


def test_where_no_rate_helps_it_is_said(small_job, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("rankdistill.training.rates.DistillationTrainer.train", lambda *_, **__: None)
    with pytest.raises(IndexError):  # of the stage itself, which trains no more than the search
        distil(compose(*small_job, *SEARCHING), tmp_path / "run")
    assert any("at no rate that was tried is the student better on the dev" in x for x in caplog.messages)


def test_rates_at_which_training_diverges_are_no_choice(small_job, tmp_path, monkeypatch):
    def diverge(*_, **__):
        raise InputError("training stopped at step 2: the loss is nan")

    monkeypatch.setattr("rankdistill.training.rates.DistillationTrainer.train", diverge)
    with pytest.raises(InputError, match="^distillation: trainer.learning_rate=auto: training diverges"):
        distil(compose(*small_job, *SEARCHING), tmp_path / "run")
