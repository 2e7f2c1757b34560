"""The embedded collection: describe a Python function, find it.

The recipe is CodeSearchNet's (Husain et al. 2019, arXiv 1909.09436): a function's docstring is the
query, its source without the docstring the one relevant document. The functions are those of the
standard library and of installed packages, read with ``ast`` and never imported.
"""

import ast
import hashlib
import importlib.util
import logging
import sys
import sysconfig
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from rankdistill.data.beir import read_beir, write_beir
from rankdistill.data.collection import Collection
from rankdistill.errors import InputError
from rankdistill.runtime.cache import build_folder, fingerprint
from rankdistill.runtime.checked import checked
from rankdistill.runtime.environment import cache_folder

log = logging.getLogger(__name__)

BAR_FROM = 500  # files; fewer are read in no time
RECIPE = 1  # raised whenever the same sources would give another collection
SPLITS = (("test", 0.3), ("dev", 0.1), ("train", 0.6))
SKIPPED_FOLDERS = {"test", "tests", "testing", "idle_test", "site-packages", "dist-packages", "__pycache__"}


@checked
def python_functions(
    packages: str | Sequence[str] = ("stdlib", "numpy"),
    limit: int | None = None,
    seed: int = 0,
) -> Collection:
    """The functions of ``packages`` (``stdlib``, or names as one imports them) as a collection.

    A query is the first paragraph of a docstring (3 to 40 words, ASCII), its document the source
    of that function without the docstring (4 lines or more); tests, dunder methods, exact
    duplicates and repeated queries are left out. Ids are qualified names, so they are stable; the
    split (test 30 %, dev 10 %, train 60 %) is a hash of the id. ``limit`` keeps that many
    functions, chosen by a hash of ``seed`` and id. Cached.

    Raises ``InputError`` for a package that isn't installed or has no Python sources.
    """
    if limit is not None and limit < 1:
        raise InputError(f"data.limit={limit}: it must be a number of functions, 1 or more")
    packages = [packages] if isinstance(packages, str) else packages
    if not packages:
        raise InputError("data.packages is empty: name one or more, such as stdlib, numpy")
    roots = {package: package_root(package) for package in packages}
    key = fingerprint(RECIPE, {package: _version(package) for package in roots}, limit, seed)
    path = cache_folder() / "collections" / f"python_functions-{key}"
    folder = build_folder(path, lambda folder: write_beir(_build(roots, limit, seed), folder))
    try:
        return read_beir(folder, name="python_functions")
    except InputError as error:
        raise InputError(f"{error} (a cached copy: delete {folder} to build it again)") from None


def package_root(package: str) -> Path:
    """The folder (or single file) that holds the sources of ``package``."""
    if package == "stdlib":
        return Path(sysconfig.get_path("stdlib"))
    try:
        spec = importlib.util.find_spec(package) if "." not in package else None
    except ValueError:
        spec = None
    places = [] if spec is None else [*(spec.submodule_search_locations or ()), *filter(None, [spec.origin])]
    if not places:
        raise InputError(
            f"data.packages: no package {package!r} is installed (top-level import names, or stdlib)"
        )
    return Path(places[0])


def _files(root: Path) -> list[Path]:
    return [root] if root.is_file() else sorted(root.rglob("*.py"))


def functions(root: Path, prefix: str) -> Iterator[tuple[str, str, str]]:
    """(qualified name, query, document) of each function under ``root`` that the recipe keeps."""
    files = _files(root)
    name = f"sources of {prefix or 'stdlib'}"
    for file in tqdm(files, desc=name, unit="file", disable=len(files) < BAR_FROM):
        parts = file.relative_to(root).with_suffix("").parts if root.is_dir() else ()
        if SKIPPED_FOLDERS & set(parts[:-1]) or file.name.startswith("test_") or file.stem == "conftest":
            continue
        module = ".".join([part for part in (prefix, *parts) if part and part != "__init__"])
        try:
            with tokenize.open(file) as text:  # by the file's own encoding
                source = text.read()
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, OSError):
            continue  # templates, sources of other Python versions
        lines = source.split("\n")  # as ast counts them
        yield from _functions_in(tree.body, module, lines)


def _functions_in(body, scope: str, lines: list[str]) -> Iterator[tuple[str, str, str]]:
    for node in body:
        name = f"{scope}.{getattr(node, 'name', '')}"
        if isinstance(node, ast.ClassDef):
            yield from _functions_in(node.body, name, lines)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.name.startswith("test") or (node.name.startswith("__") and node.name.endswith("__")):
                continue
            query, document = _query(node), _document(node, lines)
            if query and document:
                yield name, query, document


def _query(node) -> str | None:
    docstring = ast.get_docstring(node)
    if not docstring:
        return None
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    return paragraph if paragraph.isascii() and 3 <= len(paragraph.split()) <= 40 else None


def _document(node, lines: list[str]) -> str | None:
    docstring = node.body[0]
    first, last = docstring.lineno, docstring.end_lineno
    if len(node.body) < 2 or node.body[1].lineno == last or first == node.lineno:
        return None  # nothing but a docstring, or code on the docstring's own lines
    source = lines[node.lineno - 1 : first - 1] + lines[last : node.end_lineno]
    source = [line.rstrip() for line in source if line.strip()]
    return textwrap.dedent("\n".join(source)) if len(source) >= 4 else None


def _version(package: str) -> str:
    if package == "stdlib":
        return sys.version.split()[0]
    root = package_root(package)  # sources that are being worked on change under one version
    return fingerprint([[file.relative_to(root).as_posix(), _checksum(file)] for file in _files(root)])


def _checksum(file: Path) -> str | None:
    """None where ``functions`` could not read it either."""
    try:
        with open(file, "rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError:
        return None


def _build(roots: dict[str, Path], limit: int | None, seed: int) -> Collection:
    log.info("reading the sources of %s", ", ".join(roots))
    rows, texts, queries = {}, set(), set()
    for package, root in roots.items():
        for name, query, document in functions(root, "" if package == "stdlib" else package):
            if name not in rows and document not in texts and query.lower() not in queries:
                rows[name] = (query, document)
                texts.add(document)
                queries.add(query.lower())
    if not rows:
        raise InputError(f"data.packages: no documented functions in the sources of {', '.join(roots)}")
    names = sorted(rows, key=lambda name: _unit(f"{seed} {name}"))[:limit]
    names.sort()
    qrels: dict[str, dict[str, dict[str, int]]] = {split: {} for split, _ in reversed(SPLITS)}
    for name in names:
        qrels[_split(name)]["q:" + name] = {name: 1}
    return Collection(
        "python_functions",
        names,
        [rows[name][1] for name in names],
        ["q:" + name for name in names],
        [rows[name][0] for name in names],
        qrels,
    )


def _unit(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _split(name: str) -> str:
    place = _unit(name)
    for split, share in SPLITS:
        if place < share:
            return split
        place -= share
    return SPLITS[-1][0]
