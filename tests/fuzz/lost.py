"""Workers that are lost, to try what watches over them."""

import os
import time
from multiprocessing.connection import Connection

from fuzz.worker import Plan


def hang_or_crash(pipe: Connection, plan: Plan) -> None:
    """Hang in the first case and crash in the others."""
    pipe.send("ready")
    if pipe.recv()[1]:
        os.abort()
    time.sleep(600)
