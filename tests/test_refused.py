"""What the commands refuse: one clear line, status 2, nothing changed."""

import pytest
from commands import start
from filelock import FileLock
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from rankdistill.commands import finetune_teacher
from rankdistill.commands.explain import explain
from rankdistill.commands.launch import compose, sweep_notes
from rankdistill.commands.train import distil
from rankdistill.errors import InputError
from rankdistill.runtime.folders import RunFolder

BAD = [
    (
        ["sampler=stratfied"],
        "sampler=stratfied: no such option; did you mean stratified? available: ",
    ),
    (["loss=margin_mes"], "loss=margin_mes: no such option; did you mean margin_mse?"),
    (["sampler.negativs=3"], "sampler.negativs: no such field; did you mean negatives?"),
    (["trainer.learnin_rate=1"], "trainer.learnin_rate: no such field; did you mean learning_rate?"),
    (["learning_rate=1"], "learning_rate: no such field here; it is trainer.learning_rate"),
    (["lora=null"], "lora: no such field here; it is student.lora"),
    (["sampler.negatives=0"], "negatives=0"),
    (["sampler.placement=middle"], "placement='middle': it must be 'mid' or 'ends'"),
    (["evaluator.measures=[nDCGG@3]"], "'nDCGG@3' is not a measure"),
    (["sampler.negatives=500"], "a group of 501 documents, but the largest pool has"),
    (["data.path=nowhere"], "nowhere: no such folder"),
    (["student.model=./nowhere"], "'./nowhere' cannot be loaded: no such folder"),
    (["sampler.negatives=abc"], "sampler.negatives='abc': it must be an integer"),
    (["student.max_length=-5"], "max_length=-5: it must be 1 or more"),
    (["seed=-1"], "seed=-1: it must be an integer, 0 or more"),
    (["seed=4294967296"], "below 2**32"),
    (["trainer.push_to_hub=true"], "trainer.push_to_hub: upload the run's folder model"),
    (["trainer.load_best_model_at_end=true"], "trainer.load_best_model_at_end: nothing is measured"),
    (["candidates.limit=2.5"], "candidates.limit=2.5: it must be an integer or null"),
    (["candidates.retrievers.bm25.n=0"], "n=0: it must be 1 or more"),
    (["scores.scale=-5"], "scale=-5: it must be a number above 0"),
    (["trainer.learning_rate=-1"], "trainer.learning_rate=-1: it must be 0 or more"),
    (["trainer.bf16=abc"], "trainer.bf16='abc': it must be true or false"),
    (["loss=null"], "a configuration group cannot be null"),
    (["evaluator.measures=[nDCG@0]"], "'nDCG@0' is not a measure"),
    (
        ["trainer.save_only_model=true"],
        "trainer.save_only_model: a run is resumed from its optimizer's state",
    ),
    (["trainer.report_to=foo"], "foo is not supported, only"),
    (["warmup.trainer=5"], "warmup.trainer=5: it must be a group of fields"),
    (
        ["~candidates.retrievers.bm25", "candidates.retrievers.dense=null", "~candidates.retrievers.random"],
        "candidates.retrievers: no retriever",
    ),
    (["data._target_=builtins.dict", "~data.path"], "data: makes a dict, not a Collection"),
    (["cut.low=0.9", "cut.high=0.2"], "cut: low=0.9, high=0.2: shares of the queries, 0 <= low < high <= 1"),
    (
        ["cut=middle_half", "cut.by=entropie"],
        "by='entropie': it must be one of variance, std, range, entropy",
    ),
    (["seed=${nothing}"], "seed: Interpolation key 'nothing' not found"),
    (["student.prompts={query:5}"], "student.prompts.query=5: it must be a text; leave it out for none"),
    (
        ["sampler=[random,hard]"],
        "sampler=[random,hard]: one option is chosen; for a run of each of them: -m sampler=random,hard",
    ),
    (
        ["+teacher@warmup.teacher=[bm25, dense]"],
        "one option is chosen; for a run of each of them: -m +teacher@warmup.teacher=bm25,dense",
    ),
    (["evaluation.split=tset"], "evaluation.split=tset: tiny: no split 'tset'; available: 'test', 'train'"),
    (["candidates.split=tran"], "candidates.split=tran: tiny: no split 'tran'; available: 'test', 'train'"),
    (["evaluator.seed=1"], "evaluator.seed: no such field here; it is seed"),
    (["trainer.seed=1"], "trainer.seed: set seed=..."),
    (["evaluator.output_dir=x"], "evaluator.output_dir: no such field here; it is hydra.run.dir"),
    (["data.path="], "data.path='': it is empty; name a folder"),
    (["+data.limit=3"], "data.limit: no such field of rankdistill.data.read_beir; available: path, name, "),
    (["+loss.temprature=1"], "loss.temprature: no such field of "),
    (
        ["sampler._target_=rankdistill.samplers.RandmSampler"],
        "sampler._target_: rankdistill.samplers.RandmSampler cannot be found: rankdistill.samplers has no "
        "RandmSampler; did you mean RandomSampler?",
    ),
    (
        ["loss._target_=rankdistill.losss.KL"],
        "rankdistill has no losss; did you mean losses?",
    ),
    (
        ["sampler._target_=my_own.Sampler"],
        "my_own.Sampler cannot be found: no module my_own; install it, or name its folder in PYTHONPATH",
    ),
]


STARTED = {"sampler=stratfied", "sampler.negatives=500", "data.path=nowhere"}  # at three depths of a run


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "message"), [case for case in BAD if case[0][0] in STARTED])
def test_bad_input_ends_in_one_clear_line_and_status_2(tiny, tmp_path, arguments, message):
    done = start("train", [*tiny, *arguments], tmp_path)
    assert done.returncode == 2, done.stderr[-2000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert "Traceback" not in done.stderr
    assert "scores of" not in done.stderr, "nothing long before it"


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_explained_in_one_line(tiny, tmp_path, monkeypatch, capfd, arguments, message):
    """What the command prints before it ends, asked of the functions that it calls."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception) as caught:
        distil(compose(*tiny, *arguments), tmp_path / "run")
    said = explain(caught.value)
    assert said and message in said and "\n" not in said
    printed = capfd.readouterr().err
    assert "scores of" not in printed, "nothing long before it"
    assert "Error" not in printed, "nor another library's word of it"


def test_a_file_or_split_that_is_not_there_shows_before_anything_is_loaded(tiny, tmp_path, monkeypatch):
    def loaded(*_, **__):
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("rankdistill.students.load.load_weights", loaded)
    monkeypatch.setattr("rankdistill.students.cross_encoder.load_weights", loaded, raising=False)
    with pytest.raises(InputError, match="evaluation.split=dev: tiny: no split 'dev'"):
        distil(compose(*tiny, "evaluation.split=dev"), tmp_path / "run")
    own = [word for word in tiny if word.startswith("data")]
    config = compose(*own, name="finetune_teacher")
    with RunFolder(tmp_path / "other", config) as folder:
        with pytest.raises(InputError, match="evaluation.split=dev: tiny: no split 'dev'"):
            finetune_teacher.run(config, folder)
    monkeypatch.setattr("rankdistill.data.read_beir", loaded)
    words = ["teacher=file", f"teacher.path={tmp_path}/nope.csv"]
    given = [word for word in tiny if not word.startswith("teacher")]
    with pytest.raises(InputError, match="nope.csv: no such file"):
        distil(compose(*given, *words), tmp_path / "run")


@pytest.mark.parametrize("where", ["", "runs/first"])
def test_a_run_in_a_file_is_refused(tiny, tmp_path, where):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes.txt is a file; name a folder for the run$"):
        distil(compose(*tiny), tmp_path / "notes.txt" / where)
    assert (tmp_path / "notes.txt").read_text() == "mine"


OVERRULED = [
    (
        ["trainer.max_steps=3", "trainer.num_train_epochs=2"],
        "trainer.num_train_epochs: it changes nothing, as trainer.max_steps=3 decides; leave it out, or add "
        "trainer.max_steps=-1",
    ),
    (
        [
            "+more.trainer.max_steps=4",
            "trainer.num_train_epochs=2",
            "trainer.max_steps=3",
            "stages=[more,distillation]",
        ],
        "trainer.num_train_epochs: it changes nothing, as more.trainer.max_steps=4 and trainer.max_steps=3 "
        "decide; leave it out, or add more.trainer.max_steps=-1 trainer.max_steps=-1",
    ),
    (
        ["+experiment=static", "trainer.num_train_epochs=2"],
        "trainer.num_train_epochs: it changes nothing, as trainer.max_steps=800 decides; leave it out, or "
        "add trainer.max_steps=-1",
    ),
    (
        ["+experiment=static", "warmup.trainer={num_train_epochs:2,max_steps:9}"],
        "warmup.trainer.num_train_epochs: it changes nothing, as warmup.trainer.max_steps=9 decides",
    ),
    (
        ["trainer.eval_steps=5"],
        "trainer.eval_steps: it changes nothing, as trainer.eval_strategy decides; leave it out, or add "
        "trainer.eval_strategy=steps",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), OVERRULED)
def test_a_field_that_another_one_overrules_is_refused(arguments, message):
    """It was ignored; what a configuration file has beside the other is not the user's word."""
    with pytest.raises(InputError) as caught:
        compose(*arguments)
    assert str(caught.value).startswith(message)
    remedy = str(caught.value).partition("or add ")[2].split()
    compose(*arguments, *remedy)  # of a field given twice the later counts
    compose("+experiment=static", "trainer.save_steps=3")


def test_a_part_of_another_command_is_named(tmp_path):
    """Hydra's own advice, to put a + before it, leads to the next error."""
    done = start("evaluate", ["run=x.trec", "sampler=hard"], tmp_path)
    assert done.returncode == 2 and "sampler: this command has no such part" in done.stderr
    assert "+sampler" not in done.stderr


@pytest.mark.slow
def test_what_is_in_the_way_in_the_runs_folder_is_named(tiny, tmp_path):
    """A file in place of a folder, which would fail when all is computed, and another run at work."""
    (tmp_path / "model").write_text("")
    arguments = [*tiny, f"hydra.run.dir={tmp_path}"]
    done = start("train", arguments, tmp_path)
    assert done.returncode == 2 and f"{tmp_path / 'model'}: a file is where" in done.stderr
    (tmp_path / "model").unlink()
    with FileLock(tmp_path / ".lock"):
        done = start("train", arguments, tmp_path)
    assert done.returncode == 2 and f"{tmp_path}: another run is using it" in done.stderr
    assert done.stderr.count("another run") == 1 and not (tmp_path / "train.log").exists()


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_named(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    done = start("train", tiny, tmp_path, RANKDISTILL_CACHE=str(tmp_path / "file" / "cache"))
    assert done.returncode == 2 and "cannot be written" in done.stderr and "RANKDISTILL_CACHE" in done.stderr


@pytest.mark.slow
def test_a_missing_path_says_how_to_give_it(tmp_path):
    done = start("train", ["data=beir"], tmp_path)
    assert done.returncode == 2 and "data.path: must be given" in done.stderr


@pytest.mark.slow
def test_what_nobody_reads_in_a_file_of_ones_own_is_named(tiny, tmp_path):
    """A file without its first line sets nothing; a misspelt group neither; an option isn't a value."""
    experiments = tmp_path / "own" / "experiment"
    experiments.mkdir(parents=True)
    for name, text, message in (
        ("bare", "sampler: {negatives: 3}\n", "experiment: no such field"),
        (
            "typo",
            "# @package _global_\nevaluatr: {limit: 3}\n",
            "evaluatr: no such field; did you mean evaluator?",
        ),
        (
            "marked",
            "\ufeff# @package _global_\nsampler: {negatives: 3}\n",
            "marked.yaml begins with a byte order mark",
        ),
        ("value", "# @package _global_\nsampler: hard\n", "- override /sampler: hard"),
        ("number", "5\n", "a configuration file holds one int, where fields are expected"),
    ):
        (experiments / f"{name}.yaml").write_text(text, encoding="utf-8")
        own = ["--config-dir", str(tmp_path / "own"), *tiny[:7], f"+experiment={name}"]
        done = start("train", own, tmp_path)
        assert done.returncode == 2 and message in done.stderr, (name, done.stderr[-2000:])


@pytest.mark.slow
def test_an_experiment_of_another_command_is_named(tmp_path):
    """They are train's: the fields that they set elsewhere are no misspelt ones."""
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "short.yaml").write_text(
        "# @package _global_\nwarmup: {trainer: {}}\n"
    )
    available = "available: candidates, data, output, student"
    for name, words, message in (
        ("mine", ["+experiment=short"], f"warmup: no such field; {available} (is experiment=short for"),
        (
            "mine",
            ["+experiment=quick"],
            "experiment/quick: it overrides sampler, which this command does not",
        ),
        (
            "evaluate",
            ["+experiment=quick"],
            "experiment/quick: it overrides student, which this command does",
        ),
    ):
        done = start(name, ["--config-dir", str(tmp_path / "own"), *words], tmp_path)
        assert done.returncode == 2 and message in done.stderr, done.stderr[-2000:]


def test_a_refused_sweep_leaves_the_note_of_the_one_before(tmp_path):
    """Hydra writes it before any job is refused; a sweep elsewhere has none."""
    (tmp_path / "multirun.yaml").write_bytes(b"the first")
    given = ["-m", f"hydra.sweep.dir='{tmp_path}'", "sampler=hard,random"]
    assert sweep_notes(given) == {tmp_path / "multirun.yaml": b"the first"}
    assert sweep_notes(["-m", f"hydra.sweep.dir={tmp_path / 'new'}"]) == sweep_notes(["-m"]) == {}


@pytest.mark.slow
def test_a_refused_sweep_changes_nothing(tiny, tmp_path):
    settings = [x for x in tiny if not x.startswith("warmup.")]
    settings += ["warmup=none", "evaluation.teacher=false", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    done = start("train", ["-m", *settings, "sampler=random,hard"], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]

    def contents():
        files = (path for path in sorted((tmp_path / "sweep").rglob("*")) if path.is_file())
        return {path: path.read_bytes() for path in files}

    before, shown = contents(), start("report", [str(tmp_path / "sweep")], tmp_path).stdout
    reported = contents()
    assert {path: reported[path] for path in before} == before
    done = start("train", ["-m", *settings, "sampler=hard,random"], tmp_path)
    assert done.returncode == 2 and "holds a finished run with other settings" in done.stderr + done.stdout
    assert contents() == reported
    assert start("report", [str(tmp_path / "sweep")], tmp_path).stdout == shown


@pytest.mark.parametrize(
    ("word", "launcher", "package"),
    [
        ("hydra/launcher=joblib", "joblib", "hydra-joblib-launcher"),
        ("hydra/launcher=submitit_slurm", "submitit_slurm", "hydra-submitit-launcher"),
        ("+cluster=cores", "joblib", "hydra-joblib-launcher"),
        ("+cluster=slurm", "submitit_slurm", "hydra-submitit-launcher"),
    ],
)
def test_a_launcher_that_is_not_installed_is_named_with_its_package(monkeypatch, word, launcher, package):
    """It was no such option, of which basic is there."""
    Plugins.instance()  # finds those that are
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    for name in set(launchers) - {"basic.yaml"}:
        monkeypatch.delitem(launchers, name)
    with pytest.raises(InputError) as caught:
        compose(word)
    assert str(caught.value) == f"hydra/launcher={launcher}: it is not installed: pip install {package}"
