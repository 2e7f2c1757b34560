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
