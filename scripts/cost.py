"""What a collection of a given size costs by stage, from the rates that bench.py measured on a machine.

    python scripts/bench.py --rows step scoring encoding table --json bench.json
    python scripts/cost.py bench.json

The default sizes are MS MARCO's passages. Texts are taken to be as long as those of the benchmark.
"""

import argparse
import json
from pathlib import Path

STAGES = (
    "embed the documents",
    "score the candidates",
    "one epoch of groups of 8",
    "embed for the evaluation",
)


def hours(rates: dict[str, float], given: argparse.Namespace) -> dict[str, float]:
    """Of each stage, from ``rates``: row of the benchmark -> ours."""
    (step,) = (name for name in rates if name.startswith("step, "))
    batch = int(step.removeprefix("step, ").split(" x ")[0])
    embed = given.documents / rates["encoding"]
    score = given.queries * given.candidates / rates["scoring, batch 32"]
    train = given.queries / (batch * rates[step])
    return {name: x / 3600 for name, x in zip(STAGES, (embed, score, train, embed), strict=True)}


def gigabytes(rates: dict[str, float], given: argparse.Namespace) -> dict[str, float]:
    """On disk, from sizes: float32 embeddings, and the bytes a pair of the score table."""
    return {
        f"embeddings of {given.width} dimensions": given.documents * given.width * 4 / 1e9,
        "score table": given.queries * given.candidates * rates["table on disk"] / 1e9,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="that bench.py --json wrote")
    parser.add_argument("--documents", type=int, default=8_841_823)
    parser.add_argument("--queries", type=int, default=500_000)
    parser.add_argument("--candidates", type=int, default=200, help="of each query")
    parser.add_argument("--width", type=int, default=384, help="of the embeddings")
    given = parser.parse_args()
    rates = {row["row"]: row["ours"] for row in json.loads(given.file.read_text())}
    print("| stage | hours |\n|---|---|")
    for name, value in hours(rates, given).items():
        print(f"| {name} | {value:.1f} |")
    print("\n| on disk | GB |\n|---|---|")
    for name, value in gigabytes(rates, given).items():
        print(f"| {name} | {value:.1f} |")


if __name__ == "__main__":
    main()
