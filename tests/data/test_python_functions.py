import logging
import os
import sys

import pytest

from rankdistill.data import python_functions
from rankdistill.errors import InputError

BODY = "    total = 0\n    for x in {0}:\n        total += x\n    return total\n"


def function(name, docstring="Adds {name} up at last.", indent=""):
    """Source of a function that the recipe keeps, unless ``docstring`` is not to be kept."""
    source = f'def {name}(values):\n    """{docstring.format(name=name)}"""\n' + BODY.format(name)
    return "".join(indent + line + "\n" for line in source.splitlines())


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes a package of {file: source} that can be found, and that must never be imported."""

    def make(files, name="fakery"):
        (tmp_path / name).mkdir(exist_ok=True)
        for file, source in {"__init__.py": "", "trap.py": "raise SystemExit('imported')\n", **files}.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(source, encoding="utf-8")
        return name

    monkeypatch.syspath_prepend(tmp_path)
    return make


def names(collection):
    return set(collection.document_ids)


def test_the_query_is_the_docstring_and_the_document_the_rest(package):
    source = '''
class Shelf:
    """Not a function."""

    @property
    def size(self):
        """Says how many books
        there are.

        Slowly, since it counts.
        """
        # by hand

        n = 0
        for _ in self.books:
            n += 1
        return n
'''
    found = python_functions([package({"library.py": source})])
    assert found.document_ids == ["fakery.library.Shelf.size"]
    assert found.queries == ["Says how many books there are."]
    assert found.documents == [
        "def size(self):\n    # by hand\n    n = 0\n    for _ in self.books:\n        n += 1\n    return n"
    ]
    assert [judged for judged in found.qrels.values() if judged] == [
        {"q:fakery.library.Shelf.size": {"fakery.library.Shelf.size": 1}}
    ]


def test_sources_are_never_imported(package):
    python_functions([package({"__init__.py": "raise SystemExit('imported')\n", "a.py": function("f")})])
    assert not [name for name in sys.modules if name.split(".")[0] == "fakery"]


@pytest.mark.parametrize(
    ("docstring", "kept"),
    [
        ("Adds up.", False),
        ("Adds them up.", True),
        (" ".join(["word"] * 40), True),
        (" ".join(["word"] * 41), False),
        ("Adds them up.\n\n    " + "word " * 50, True),
        ("Adds up.\n\n    And more words than three.", False),
        ("Adds naïve numbers up.", False),
        ("Adds numbers up.\n\n    Naïvely.", True),
    ],
)
def test_docstrings_of_three_to_forty_ascii_words_are_kept(package, docstring, kept):
    made = package({"a.py": function("f", docstring) + function("other")})
    assert ("fakery.a.f" in names(python_functions([made]))) == kept


@pytest.mark.parametrize(
    "source",
    [
        'def f(x):\n    """Gives three lines back."""\n    y = x\n    return y\n',
        'def f(x):\n    """Gives three lines back."""\n\n    y = x\n\n    return y\n',
        'def f(x):\n    """Gives nothing back.\n\n    a\n    b\n    c\n    """\n',
        "def f(x):\n    a = x\n    b = a\n    c = b\n    return c\n",
        function("test_f"),
        "class A:\n" + function("__call__", indent="    "),
        "def broken(:\n" + function("f"),
    ],
    ids=["short", "blank-lines", "docstring-alone", "no-docstring", "test", "dunder", "syntax-error"],
)
def test_what_is_no_example_is_left_out(package, source):
    found = python_functions([package({"a.py": source, "b.py": function("other")})])
    assert names(found) == {"fakery.b.other"}


@pytest.mark.parametrize("file", ["tests/a.py", "test/deep/a.py", "test_a.py", "conftest.py"])
def test_tests_of_a_package_are_left_out(package, file):
    found = python_functions([package({file: function("f"), "b.py": function("other")})])
    assert names(found) == {"fakery.b.other"}


def test_a_form_feed_does_not_shift_lines(package):
    """Only newlines count as line ends to the parser, str.splitlines knows ten more."""
    found = python_functions([package({"a.py": "import os\n\x0c\ns = 'a\u2028b'\n" + function("f")})])
    assert found.documents == ["def f(values):\n" + BODY.format("f").rstrip()]


def test_duplicates_and_repeated_queries_are_left_out(package):
    copy = function("f", "Says it in other words.")
    query = function("g", "ADDS f up at last.")
    found = python_functions(
        [package({"a.py": function("f"), "b.py": copy, "c.py": query, "d.py": function("h")})]
    )
    assert names(found) == {"fakery.a.f", "fakery.d.h"}


@pytest.fixture
def hundred(package):
    return package({"a.py": "".join(function(f"f{i}") for i in range(100))})


def test_splits_depend_on_the_name_alone(package, hundred):
    def splits(collection):
        return {query: split for split, judged in collection.qrels.items() for query in judged}

    everything, few = python_functions([hundred]), python_functions([hundred], limit=30, seed=3)
    assert splits(few).items() <= splits(everything).items()
    sizes = {split: len(judged) for split, judged in everything.qrels.items()}
    assert sum(sizes.values()) == 100 and sizes["train"] > sizes["test"] > sizes["dev"] > 0
    second = python_functions(
        [package({"z.py": function("new")}), package({"b.py": function("g")}, "another")]
    )
    assert splits(everything).items() <= splits(second).items()


def test_a_limit_is_drawn_by_seed(hundred, monkeypatch, tmp_path):
    first, other = (
        python_functions([hundred], limit=20, seed=1),
        python_functions([hundred], limit=20, seed=2),
    )
    assert len(first.documents) == len(other.documents) == 20
    assert first.document_ids != other.document_ids
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path / "cold"))
    assert python_functions([hundred], limit=20, seed=1).fingerprint == first.fingerprint


def test_the_cache_is_reused_and_the_log_says_so(hundred, caplog):
    caplog.set_level(logging.INFO)
    first = python_functions([hundred], limit=10)
    assert "reusing" not in caplog.text and "reading the sources of fakery" in caplog.text
    caplog.clear()
    assert python_functions([hundred], limit=10).fingerprint == first.fingerprint
    assert "reusing" in caplog.text and "reading the sources" not in caplog.text


def test_sources_that_changed_are_read_again(package):
    """A package that is being worked on keeps its version."""
    first = python_functions(package({"a.py": function("alpha")}))
    again = python_functions(package({"a.py": function("alpha") + function("beta")}))
    assert names(first) == {"fakery.a.alpha"} and names(again) == {"fakery.a.alpha", "fakery.a.beta"}


def test_sources_that_changed_within_a_tick_of_the_clock_are_read_again(package, tmp_path):
    """Of the same size and time, as after the clock was set back, or an archive with times was unpacked."""
    python_functions(package({"a.py": function("alpha")}))
    file = tmp_path / "fakery" / "a.py"
    state = file.stat()
    file.write_text(function("omega"))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_size == state.st_size
    assert names(python_functions("fakery")) == {"fakery.a.omega"}


def test_the_same_sources_in_another_place_are_the_same_collection(package, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    python_functions(package({"a.py": function("alpha")}))
    (tmp_path / "moved").mkdir()
    (tmp_path / "fakery").rename(tmp_path / "moved" / "fakery")
    monkeypatch.syspath_prepend(tmp_path / "moved")
    python_functions("fakery")
    assert caplog.text.count("reading the sources") == 1


def test_a_single_file_is_a_package_too(tmp_path, monkeypatch):
    (tmp_path / "onefile.py").write_text(function("f"))
    monkeypatch.syspath_prepend(tmp_path)
    assert python_functions(["onefile"]).document_ids == ["onefile.f"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"packages": ["no_such_package_here"]}, "no package 'no_such_package_here'"),
        ({"packages": ["os.path"]}, "no package 'os.path'"),
        ({"packages": [""]}, "no package ''"),
        ({"packages": ["sys"]}, "no documented functions in the sources of sys"),
        ({"packages": []}, "data.packages is empty"),
        ({"packages": ["fakery"], "limit": 0}, "data.limit=0"),
        ({"packages": ["fakery"]}, "no documented functions in the sources of fakery"),
    ],
)
def test_bad_options_raise(package, options, message):
    package({"a.py": "x = 1\n"})
    with pytest.raises(InputError, match=message):
        python_functions(**options)


def test_a_failed_build_is_not_taken_for_a_collection(package):
    name = package({"a.py": "x = 1\n"})
    with pytest.raises(InputError):
        python_functions([name])
    package({"a.py": function("f")})
    assert names(python_functions([name])) == {"fakery.a.f"}


@pytest.mark.slow
def test_the_standard_library_is_there():
    found = python_functions(["stdlib"], limit=50)
    assert len(found.documents) == 50 and not any(".site-packages." in name for name in found.document_ids)
