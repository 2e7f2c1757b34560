"""What the package calls its own stays so, whatever else is imported."""

import subprocess
import sys
from types import ModuleType

import pytest

import rankdistill as rd

IMPORTS_ALL = """
import importlib, pkgutil, random, sys
import pytest

import rankdistill as rd

before = {name: getattr(rd, name) for name in rd.__all__}
names = [found.name for found in pkgutil.walk_packages(rd.__path__, "rankdistill.")]
random.Random(int(sys.argv[1])).shuffle(names)
for name in names:
    importlib.import_module(name)
assert not {f"rankdistill.{name}" for name in rd.__all__} & set(names)  # none is also a module
assert {"rankdistill.commands.mine"} <= set(names) <= set(sys.modules)
changed = [name for name in rd.__all__ if getattr(rd, name) is not before[name]]
assert not changed, changed
"""


def test_public_names_stay_what_they_are_whatever_is_imported():
    """In a fresh interpreter: only the first import of a module binds its name in the package."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_ALL, "0"], capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_no_module():
    assert not [name for name in rd.__all__ if isinstance(getattr(rd, name), ModuleType)]


def test_importing_the_package_imports_nothing_that_takes_long():
    """Under half a second: torch, transformers, pandas and their like wait until a name is used."""
    code = "import sys, rankdistill; print(*{'torch', 'transformers', 'pandas', 'faiss'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.strip() == "", done.stderr


def test_every_public_name_has_a_place_and_is_listed():
    assert set(rd.__all__) == set(rd._PLACE) <= set(dir(rd))
    with pytest.raises(AttributeError, match="module 'rankdistill' has no attribute 'Trainer'"):
        rd.Trainer  # noqa: B018
