"""Imports point one way: a room uses those above it, never one below."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "rankdistill"
ROOMS = [  # from what all rest on to what nothing uses
    *("errors", "runtime", "vocabulary", "samplers", "losses", "data", "scores", "students", "retrieval"),
    *("candidates", "teachers", "evaluation", "training", "analysis", "commands"),
]
FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file.parent != PACKAGE or file.stem in ROOMS]


def room(name: str) -> str:
    return name.split(".")[1]


def imported(file: Path) -> set[str]:
    """The rooms that ``file`` imports from, inside functions too; not for annotations alone."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {room(one.name) for one in node.names if one.name.startswith("rankdistill.")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rankdistill":
            names = [node.module] if "." in node.module else [f"rankdistill.{one.name}" for one in node.names]
            found |= {room(name) for name in names}
    return found - {"__version__"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_room_uses_those_above_it_alone(file):
    own = ROOMS.index(file.relative_to(PACKAGE).parts[0].removesuffix(".py"))
    assert imported(file) <= set(ROOMS[: own + 1])


def test_every_room_is_in_the_order():
    there = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix in (".py", "")}
    there = {name for name in there if not name.startswith("_")}
    assert there - {"train", "assets"} == set(ROOMS)  # python -m rankdistill.train


def test_the_classes_of_sentence_transformers_are_named_in_one_room():
    classes = re.compile(
        r"\b(SentenceTransformer|CrossEncoder|SparseEncoder|MultiVectorEncoder|StaticEmbedding|Router"
        r"|MultiVectorMask)\b"
    )
    others = [file for file in FILES if "students" not in file.relative_to(PACKAGE).parts]
    assert [file.name for file in others if classes.search(file.read_text())] == []
    assert any(classes.search(file.read_text()) for file in FILES if file not in others)
