"""A page that lets anyone try a trained model, and shows why it answers as it does.

Its port is looked for here, where nothing heavy is imported: whether it is free is known before a model is loaded.
"""

import socket

from hftl.errors import RunError


HOST = "127.0.0.1"
AUTH_VARIABLE = "HFTL_DEMO_AUTH"  # user:password that the page asks for


def free_port(port: int) -> int:
    """Return `port`, or any free one for 0. Raises `RunError`, with a free one, when it is taken or not allowed."""
    try:
        return _bind(port)
    except OSError as error:
        problem = "not open to this user" if isinstance(error, PermissionError) else "in use"
        raise RunError(f"Port {port} is {problem}: choose another with --port {_bind(0)}") from None


def _bind(port: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # as the server does: a port whose last connections are still closing is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return int(probe.getsockname()[1])
