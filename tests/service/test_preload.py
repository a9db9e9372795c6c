import subprocess
import sys

import pytest

from tests.served import ROOT

PROGRAM = """
import bentoml, threading
bentoml.server_context.worker_index = {index}
from service.text import detect
import service.preload
for thread in threading.enumerate():
    if thread is not threading.current_thread() and thread.daemon:
        thread.join()
print(detect._loaded.cache_info().currsize)
"""


@pytest.mark.parametrize(("index", "loaded"), [(1, "1"), (None, "0")], ids=["worker", "supervisor"])
def test_a_worker_reads_the_language_model_from_the_beginning(index: int | None, loaded: str) -> None:
    command = [sys.executable, "-c", PROGRAM.format(index=index)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [loaded]
