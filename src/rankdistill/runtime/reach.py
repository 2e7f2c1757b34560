"""Whether the model hub can be reached, asked once and briefly."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, get_session

from rankdistill.runtime.environment import patience

REMEMBERED = 60.0  # seconds that a hub out of reach isn't asked again
_failed_at: dict[str, float] = {}  # by address


@contextmanager
def asking_hub() -> Iterator[None]:
    """While it lasts, a hub out of reach is not asked: huggingface_hub takes what it has downloaded before.

    It would otherwise ask for every file five times and wait in between, more than a minute. Any
    answer at all counts; one that is cut off by the network, or not there in time, does not.
    """
    was = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = was or not _answers(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was


def _answers(address: str) -> bool:
    if time.monotonic() - _failed_at.get(address, -REMEMBERED) < REMEMBERED:
        return False
    try:
        get_session().head(address, timeout=patience())
    except Exception:  # of the network, of a proxy, of certificates: each library has its own
        _failed_at[address] = time.monotonic()
        return False
    return True
