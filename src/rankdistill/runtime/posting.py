"""JSON posted to a server: again after a while where it is busy, never with a key that shows."""

import json
import logging
import math
import os
import random
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from itertools import count
from ssl import SSLCertVerificationError
from threading import Event
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from rankdistill.errors import InputError

log = logging.getLogger(__name__)
FIRST_WAIT = 1.0  # seconds before the second try; twice as long before each further one
LONGEST_WAIT = 60.0  # seconds, of those
LONGEST_ASKED = 600.0  # seconds that a server may ask for; one that asks for more is given up
BUSY = {408, 425, 429, 500, 502, 503, 504, 529}  # statuses after which another try may succeed
SHOWN = 200  # characters of what a server says


class Stopped(Exception):
    """No more is sent: another request failed for good."""


class _Busy(Exception):
    """Another try may succeed, after at least ``wait`` seconds."""

    def __init__(self, why: str, wait: float = 0.0):
        super().__init__(why)
        self.wait = wait


class _NoRedirects(HTTPRedirectHandler):
    """A redirect is an error: the request's key and texts are for the server that was named."""

    def redirect_request(self, *args, **kwargs) -> None:
        return None


class Poster:
    """Posts JSON to ``address``, from several threads.

    ``key`` goes into the header Authorization, and into nothing that is raised or logged. A status of
    ``BUSY``, a connection that fails and ``timeout`` seconds of silence are tried again, ``retries``
    times, after 1, 2, 4, ... seconds (up to 60) or as many as Retry-After says; where a server says
    that, nothing at all is sent to it meanwhile. ``stop`` ends all that waits.
    """

    def __init__(self, address: str, key: str | None, timeout: float, retries: int):
        self.address, self.timeout, self.retries = address, timeout, retries
        self._key = key
        self._open = build_opener(_NoRedirects).open
        self._quiet_until = 0.0  # by time.monotonic
        self._stopped = Event()

    def stop(self) -> None:
        """Requests that wait for another try, or have not begun, raise ``Stopped``."""
        self._stopped.set()

    def post(self, body: Mapping[str, Any]) -> Any:
        """The answer to ``body``, read as JSON. Raises ``InputError`` where there is none."""
        data = json.dumps(body).encode()
        for attempt in count():
            while (rest := self._quiet_until - time.monotonic()) > 0 and not self._stopped.wait(rest):
                pass
            if self._stopped.is_set():
                raise Stopped
            try:
                return self._once(data)
            except _Busy as busy:
                if busy.wait > LONGEST_ASKED:
                    raise InputError(
                        f"{self.address}: {busy}, and asks to wait {busy.wait:,.0f} seconds (Retry-After)"
                    ) from None
                if attempt == self.retries:
                    times = f"{attempt + 1} times" if attempt else "once"
                    raise InputError(f"{self.address}: {busy}, {times}") from None
                if busy.wait:
                    self._quiet_until = max(self._quiet_until, time.monotonic() + busy.wait)
                wait = max(busy_wait(attempt), busy.wait)
                log.info("%s: %s; trying again in %.1f seconds", self.address, busy, wait)
            self._stopped.wait(wait)

    def _once(self, data: bytes) -> Any:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "rankdistill",
        }
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            with self._open(Request(self.address, data, headers), timeout=self.timeout) as answer:
                text = answer.read()
        except HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except (OSError, HTTPException) as error:
            raise self._failure(error) from None
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise InputError(f"{self.address}: answers {self._shown(text)}, which is not JSON") from None

    def _refusal(self, error: HTTPError) -> Exception:
        """What a status other than 200 means."""
        status = f"{error.code} {error.reason}".strip()
        if error.code in BUSY:
            return _Busy(f"answers {status}", seconds_of(error.headers.get("Retry-After")))
        if 300 <= error.code < 400:
            to = self._shown(str(error.headers.get("Location")).encode())
            return InputError(
                f"{self.address}: answers {status}, a redirect to {to}, which is not followed: what is sent, "
                "the key too, is for the server that is named; if that one is right, name it"
            )
        if error.code in (401, 403):
            how = "asks for a key" if self._key is None else "refuses the key"
            return InputError(f"{self.address}: answers {status}: it {how}")
        try:
            text = error.read()
        except (OSError, HTTPException):
            text = b""
        return InputError(f"{self.address}: answers {status}: {self._shown(text)}")

    def _failure(self, error: OSError | HTTPException) -> Exception:
        """What it means that there was no answer."""
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, SSLCertVerificationError):
            return InputError(f"{self.address}: its certificate is not trusted ({reason.verify_message})")
        if isinstance(reason, TimeoutError):
            return _Busy(f"no answer in {self.timeout:g} seconds")
        return _Busy(self._shown(f"no answer ({reason or type(reason).__name__})".encode())[1:-1])

    def _shown(self, text: bytes) -> str:
        """The beginning of what a server said, in one line, less the key if it is in it."""
        shown = text.decode(errors="replace")
        if self._key:
            shown = shown.replace(self._key, "***")
        shown = " ".join(shown.split())
        return repr(shown[:SHOWN] + ("..." if len(shown) > SHOWN else ""))


def busy_wait(attempt: int) -> float:
    """Seconds before the next try: doubled with each; up to a quarter more, so that not all come at once."""
    return min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * random.uniform(1, 1.25)


def seconds_of(retry_after: str | None) -> float:
    """What the header Retry-After asks for, in seconds from now: a number, or a date; 0 for anything else."""
    try:
        if re.fullmatch(r"\s*\d+(\.\d*)?\s*", retry_after or ""):
            return float(str(retry_after))
        seconds = parsedate_to_datetime(str(retry_after)).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


def check_address(address: str, name: str) -> None:
    """Raises ``InputError`` unless ``address`` is a place behind http:// or https://, without a key in it."""
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, TypeError, AttributeError):
        good = False
    if good and "@" in parts.netloc:
        raise InputError(f"{name}: it has a user or a key before the @; name the variable that has the key")
    if not good or not address.isascii() or not address.isprintable() or " " in address:
        raise InputError(f"{name}={address!r}: it must be an address such as http://localhost:8080/rerank")
    if parts.path in ("", "/"):
        raise InputError(f"{name}={address!r}: it lacks the path, which is often /rerank or /v1/rerank")


def read_key(variable: str | None, name: str) -> str | None:
    """What the environment's ``variable`` has; None for None. ``name`` is the field that names it.

    Raises ``InputError`` if it isn't set, or holds what no header can; what it holds is not shown.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError(f"{name}={variable}: the environment has no such variable, or it is empty")
    if not re.fullmatch(r"[!-~]+", key):
        raise InputError(
            f"{name}={variable}: the variable does not hold a key: it has blanks, or is not ASCII"
        )
    return key
