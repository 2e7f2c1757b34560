"""``rankdistill <command> ...``, the same as ``python -m rankdistill <command> ...``."""

import sys
from difflib import get_close_matches
from runpy import run_module

COMMANDS = {
    "train": "distil a teacher into a student, measured before and after",
    "evaluate": "measure models and run files, and compare them",
    "report": "the runs of a sweep as one table, with tests",
    "compare": "a sampler or loss of your own against the library's, as a table",
    "mine": "write the candidates of a split to a file",
    "score": "write a teacher's scores of candidates to a file",
    "quantise": "write a model's documents as FAISS indexes of few bytes each",
    "average": "write the mean of models that began alike",
    "export": "write a model in the formats of other runtimes",
    "finetune_teacher": "train a cross-encoder on a collection's own judgments",
    "cache": "list what was computed once and kept, and prune it",
}
HELP = "\n".join(
    [
        "rankdistill <command> ...: teach a fast retriever what a slow reranker knows\n",
        *(f"  {name:<18}{does}" for name, does in COMMANDS.items()),
        "\nrankdistill <command> --help says what it takes",
    ]
)


def main() -> None:
    """Runs the command that the first argument names; exit status 2 if there is no such command."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
    elif words[0] == "--version":
        from rankdistill import __version__

        print(f"rankdistill {__version__}")
    elif words[0] not in COMMANDS:
        close = get_close_matches(words[0], COMMANDS, 1)
        meant = f"; did you mean {close[0]}?" if close else ""
        print(
            f"error: {words[0]!r} is not a command{meant}; available: {', '.join(COMMANDS)}", file=sys.stderr
        )
        sys.exit(2)
    else:
        sys.argv = [f"rankdistill {words[0]}", *words[1:]]
        run_module(f"rankdistill.commands.{words[0]}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
