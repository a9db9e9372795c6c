"""Can a server listen? BentoML first empties the directory of the metrics, and then finds out: the server that listens
there already would be without its own. ``python -m service.client.listen HOST PORT`` says it in words.
"""

import ipaddress
import socket
import sys

from .failure import CommandError


def check(host: str, port: int) -> None:
    """Raises :class:`CommandError` if nobody can listen there."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        with socket.socket(family) as there:
            # As the server does it: connections that are closing do not count.
            there.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            there.bind((host, port))
    except ValueError as error:
        raise CommandError(f"cannot listen: {error}") from error
    except (OSError, OverflowError) as error:
        raise CommandError(f"cannot listen on port {port} of {host}: {error}") from error


if __name__ == "__main__":
    try:
        check(sys.argv[1], int(sys.argv[2]))
    except CommandError as error:
        sys.exit(f"attentive: {error}")
