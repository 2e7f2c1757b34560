"""What to call values that are paths, in tables and sentences."""

import re
from collections.abc import Collection, Sequence
from pathlib import PurePath

SAID_BY_FOLDER = ("model", "run.trec.gz", "run.trec")  # what these are the folder's name says
NO_PATH = r"[\s\[\](){},=]"  # in lists, templates and expressions a slash means something else


def endings(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The shortest endings of different ``paths``, given by their parts, that tell them apart.

    A run's student is in ``<run>/model``: the folder's name belongs to it, though it may be alone.
    """
    names = []
    for one in paths:
        n = 2 if one[-1] in SAID_BY_FOLDER else 1
        while n < len(one) and any(other is not one and other[-n:] == one[-n:] for other in paths):
            n += 1
        names.append("/".join(part.strip("/") for part in one[-n:]))
    return names


def shown(values: Collection[str]) -> dict[str, str]:
    """What to call each of ``values``: of paths their ``endings``, all else as it is."""
    distinct = list(dict.fromkeys(values))
    paths = ["/" in value.strip("/") and not re.search(NO_PATH, value) for value in distinct]
    parts = [PurePath(v).parts if is_path else (v,) for v, is_path in zip(distinct, paths, strict=True)]
    return dict(zip(distinct, endings(parts), strict=True)) if any(paths) else {v: v for v in distinct}
