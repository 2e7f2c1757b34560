"""Values on the command line that Hydra's grammar has no place for."""

import re
import shlex

import pytest
from commands import start
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from rankdistill.commands.launch import compose, make
from rankdistill.commands.words import ambiguous, expand_home, readable
from rankdistill.errors import InputError, fields_of

ODD = [
    "with space", "a=b", "a,b", "par(1)", "brack[1]", "per%c", "hash#1", "käse", "日本", "quote'1",
    "back\\slash", "semi;colon", "tilde~x", "amp&", "star*", "curly{x}", "both'\"x", "tail\\#", "ends'\\",
    "ü,ö", "dollar$x",
    "Ж \"x\"", "{title}: {text}", "{a} b,c", "pipe|x", "<x>", "x\\'y'",
]  # fmt: skip


def parsed(word):
    """What Hydra makes of the value of ``word``."""
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("value", ODD)
def test_what_exists_is_taken_as_it_is_named(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / value).mkdir()
    (word,) = readable([f"data.path={value}"])
    assert parsed(word) == value


@pytest.mark.parametrize("value", ODD)
def test_what_is_shown_can_be_pasted_into_a_shell(value):
    """It is taken, or the error shows a word that Hydra reads as this very value."""
    try:
        (word,) = readable([f"f={value}"])
        if value != "a,b":
            assert parsed(word) == value
    except InputError as error:
        shown = re.search(r"quoted it can: (.*)", str(error))
        assert "\n" not in str(error) and str(error).startswith(f"f={value}: ") and shown
        (pasted,) = shlex.split(shown[1])
        assert parsed(pasted) == value and readable([pasted]) == [pasted]


@pytest.mark.parametrize("value", ["käse", "日本", "résumé/d'été", "Ж/x y"])
def test_a_word_with_other_letters_needs_no_quotes(value):
    if "'" in value:
        with pytest.raises(InputError, match="quoted it can"):
            readable([f"f={value}"])
    else:
        assert parsed(*readable([f"f={value}"])) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[P(rel=2)@5]", ["P(rel=2)@5"]),
        ("[ERR@10,RBP(p=0.8)]", ["ERR@10", "RBP(p=0.8)"]),
        ("[käse, b]", ["käse", "b"]),
        ("{query:käse,document:x y}", {"query": "käse", "document": "x y"}),
    ],
)
def test_lists_and_groups_are_quoted_within(value, expected):
    with pytest.raises(InputError) as error:
        readable([f"f={value}"])
    (pasted,) = shlex.split(str(error.value).partition("quoted it can: ")[2])
    assert parsed(pasted) == expected


AS_EVER = [
    "data=beir",
    "-m",
    "seed=0,1",
    "~teacher.x",
    "+a.b=1",
    "++a=null",
    "x=[a,b]",
    "x={a:1}",
    "x=",
    "'x'",
]


def test_what_hydra_reads_is_left_alone():
    assert readable(AS_EVER) == AS_EVER


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    given = ["data.path=~/x", "run=~", "--config-dir=~/c", "-cd", "~/d", "~x.y", "hydra.run.dir=~/o"]
    home = str(tmp_path)
    assert readable(given) == [
        *(f"data.path={home}/x", f"run={home}", f"--config-dir={home}/c", "-cd", f"{home}/d"),
        *("~x.y", f"hydra.run.dir={home}/o"),
    ]


def test_home_is_expanded_in_files(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = OmegaConf.create(
        {
            "data": {"path": "~/x", "n": 1, "log": "~/${data.n}"},
            "model": ["~/a", "b~/c"],
            "run": "???",
            "other": "${data.path}",
        }
    )
    expand_home(config)
    assert config.data.path == f"{tmp_path}/x" == config.other and config.data.log == f"{tmp_path}/1"
    assert config.model == [f"{tmp_path}/a", "b~/c"] and OmegaConf.is_missing(config, "run")


@pytest.mark.parametrize("value", ["range(0,0)", "range(3,1)", "range(0)"])
def test_a_sweep_of_nothing_is_refused(value):
    """It started no run and ended with status 0."""
    said = f"^seed={re.escape(value)}: there is no number in it, and no run would be started"
    with pytest.raises(InputError, match=said):
        readable(["-m", f"seed={value}"])
    assert readable(["-m", "seed=range(0,2)"]) == ["-m", "seed=range(0,2)"]


def test_several_values_without_a_sweep():
    said = ambiguous("data.path=a,b")
    assert said == (
        "data.path=a,b: several values, for a sweep (-m); one text is 'data.path=\"a,b\"', a list "
        "'data.path=[a,b]'"
    )
    with pytest.raises(InputError, match=r"^seed=0,1: several values, for a sweep"):
        compose("seed=0,1")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_target_": "rankdistill.candidates.BM25", "n": 0}, r"a\.b\.n=0: it must be 1 or more"),
        ({"_target_": "rankdistill.candidates.BM25", "language": "xx"}, r"a\.b\.language='xx': no stemmer"),
        (
            {"_target_": "rankdistill.teachers.demo.demo_teacher", "part": "x"},
            r"a\.b\.part='x': it must be ensemble",
        ),
    ],
)
def test_a_parameter_is_named_by_the_field_that_sets_it(config, message):
    with pytest.raises(InputError, match=f"^{message}"):
        make(OmegaConf.create({"a": {"b": config}}).a.b)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("student.layers=0", "student.layers=0: the model has"),
        ("sampler.negatives=0", "sampler: positives=1, negatives=0: a group takes"),
        ("evaluator.k=0", "evaluator.k=0: it must be a number of documents, 1"),
        ("evaluator.measures=null", "evaluator.measures=None: it must be a list"),
        ("sampler.placement=null", "sampler.placement=None: it must be 'mid' or 'ends'"),
        ("cut.by=foo", "cut.by"),
    ],
)
def test_what_a_part_refuses_is_an_input_error_in_python_too(word, message, student_folder):
    config = compose(word, f"student.model={student_folder}")
    with pytest.raises(InputError, match=f"^{message}"):
        make(config[word.split(".")[0]])


def test_several_fields_of_the_trainer_at_once():
    for word in ("warmup.trainer={learning_rate:1e-3}", "warmup.trainer.learning_rate=1e-3"):
        found = compose(word).warmup.trainer
        assert found.learning_rate == 1e-3 and found.num_train_epochs == 2, "the others stay"
    for word in ("distillation.trainer={max_steps:3}", "distillation={trainer:{max_steps:3}}"):
        assert compose(word).distillation.trainer == {"max_steps": 3}


def test_fields_of_a_part_are_named_in_full_and_others_left_alone():
    for said, expected in (("scale=0: it", "scores.scale=0: it"), ("x.tsv:3: bad", "x.tsv:3: bad")):
        with pytest.raises(InputError, match=f"^{expected}"), fields_of("scores"):
            raise InputError(said)


def test_home_is_expanded_in_the_folders_of_a_file(monkeypatch, tmp_path, beir, student_folder):
    """In a run and in a sweep; they are known before the configuration is a command's."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(
        "# @package _global_\n"
        "hydra:\n  run: {dir: '~/one run/${split}'}\n  sweep: {dir: '~/käse, x/${now:%Y}'}\n"
    )
    words = ["--config-dir", str(tmp_path), "+experiment=own", "data=beir", f"data.path={beir}"]
    for more in ([], ["-m"]):
        done = start("evaluate", [*more, *words, f"model={student_folder}"], tmp_path)
        assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "home" / "käse, x").iterdir()
    assert (sweep / "0" / "metrics.json").exists()
    assert (tmp_path / "home" / "one run" / "test" / "metrics.json").exists()
    assert not (tmp_path / "~").exists()
