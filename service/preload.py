"""Import it first: a worker then reads the language model on one processor while it imports the rest on another.

A worker that follows a dead one has to be there soon, and most of its start is importing.
"""

from threading import Thread

import bentoml

from service.text import detect

if bentoml.server_context.worker_index is not None:
    Thread(target=detect.load, daemon=True).start()
