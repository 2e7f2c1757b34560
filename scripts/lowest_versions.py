"""The fast tests at the lowest versions that pyproject.toml allows, in a fresh environment.

``python scripts/lowest_versions.py ../lowest`` makes a virtual environment in that folder, which must not
exist, and runs ``pytest -n 1`` there; what follows the folder goes to pytest. Versions are read from
pyproject.toml: those of ``dependencies`` and of the extras are the lowest; those of the extra ``test`` are
any, because tests alone need them.

torch is the one of constraints.txt, not the lowest: of older versions the package index has no builds for
a CPU alone. ``--torch 2.7`` takes another.
"""

import argparse
import re
import subprocess
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APART = ("test", "export")  # extras; the latter goes with few versions of transformers
NOT_RUN = re.compile(r"mypy|ruff|types-|.*-stubs")  # they check annotations, and follow the newest libraries


def requirements(torch: str | None) -> list[str]:
    """What pip installs: ``name==lowest`` of what the package needs, and the tests' own as they are."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for_tests = [x for x in extras["test"] if not x.startswith("rankdistill[") and not NOT_RUN.match(x)]
    needed = [*project["dependencies"], *(x for name in extras if name not in APART for x in extras[name])]
    lowest = [x.replace(">=", "==") for x in needed if not x.startswith("torch>=")]
    pinned = re.search(r"^torch==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    return [*lowest, f"torch=={torch or pinned[1]}", *for_tests]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="of the environment; it must not exist")
    parser.add_argument("--torch", help="the version of torch, by default that of constraints.txt")
    arguments, rest = parser.parse_known_args()
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} exists; name a new folder, or delete it")
    venv.create(arguments.folder, with_pip=True)
    python = arguments.folder.resolve() / "bin" / "python"
    wanted = requirements(arguments.torch)
    print("\n".join(wanted), flush=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "-e", ROOT], check=True)
    raise SystemExit(subprocess.run([python, "-m", "pytest", "-n", "1", *rest], cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
