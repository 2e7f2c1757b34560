"""What a terminal shows of a run: lines of the log, and bars that go on below them."""

import logging

from tqdm.auto import tqdm


class Lines(logging.StreamHandler):
    """A handler whose lines do not run into the bars that are drawn meanwhile."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)
