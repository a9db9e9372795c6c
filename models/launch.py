"""Several processes that learn together on one machine's CPU: ``python -m models.launch 2 models.train --config ...``.

What follows the number is the module and its arguments. Each process gets its share of the cores: models of this size
keep one core busy, and hardly two. ``accelerate launch`` would ask for MPI, ``torchrun`` takes ``--run`` for its own.
"""

import os
import sys
import uuid
from typing import Annotated

import typer
from loky import cpu_count
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def launch(processes: int, *command: str) -> None:
    """Run ``python -m command`` in all processes until all have ended. Raises ``ChildFailedError`` where one fails."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpu_count() // processes)))
    os.environ["ACCELERATE_USE_CPU"] = "true"
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # a free port: two runs side by side do not meet
        max_restarts=0,
    )
    elastic_launch(config, sys.executable)("-m", *command)


def main(
    processes: Annotated[int, typer.Argument(min=1)],
    module: Annotated[str, typer.Argument(help="models.train")],
    arguments: Annotated[list[str] | None, typer.Argument(help="of the module")] = None,
) -> None:
    """Run a module in several processes that learn together. Exits with the code of the first that fails."""
    try:
        launch(processes, module, *(arguments or ()))
    except ChildFailedError as error:
        raise typer.Exit(max(1, error.get_first_failure()[1].exitcode)) from None


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(main)
    app()
