"""What a worker process does first. NumPy must not be imported here: in a process that was not forked, BLAS must be
limited before that.
"""

import os
import signal
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

from ..runtime.blas import claim_threads

PARENT_SECONDS = 1


def start_worker(parent: int, reader: Connection) -> None:
    """Give BLAS one thread, and watch the parent: end this process when it says so or was killed, as no call of the
    pool would ever return.
    """

    def watch() -> None:
        with suppress(OSError):  # Windows, when the parent is gone
            while not reader.poll(PARENT_SECONDS) and os.getppid() == parent:
                pass
        os._exit(1)

    claim_threads()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the parent's handler
    threading.Thread(target=watch, daemon=True).start()
