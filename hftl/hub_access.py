"""Whether the Hub can be asked, found out in under two seconds."""

import os
import socket
from urllib.parse import urlparse


def hub_reachable(timeout: float = 1.5) -> bool:
    """True when the Hub's host accepts a connection within `timeout` seconds and offline mode is off.

    With a proxy set the proxy decides, so the answer is True. A try costs nothing beside a download, and spares a
    user without network the minutes of retries that the Hub client would make.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    url = urlparse(constants.ENDPOINT)
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        socket.create_connection((url.hostname or "", port), timeout=timeout).close()
    except OSError:
        return False
    return True
