"""The one error a person can cause."""


class InputError(ValueError):
    """Bad input: the message names the file, line or field at fault, and the remedy.

    The commands print it without a traceback and end with status 2.
    """


def shorten(names, most: int = 3) -> str:
    """The first few of ``names``, quoted, and how many more there are."""
    names = list(names)
    text = ", ".join(repr(name) for name in names[:most])
    return text + (f" and {len(names) - most:,} more" if len(names) > most else "")


def at_least(least: float, **values: float | None) -> None:
    """Raises ``InputError`` naming the first of ``values`` that is below ``least``; None passes."""
    for name, value in values.items():
        if value is not None and not value >= least:
            raise InputError(f"{name}={value}: it is {least} or more")
