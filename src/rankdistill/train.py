"""``python -m rankdistill.train``, which is ``rankdistill train``; from Python ``distil`` and ``compose``."""

from rankdistill.commands.train import compose, distil, main

__all__ = ["compose", "distil"]

if __name__ == "__main__":
    main()
