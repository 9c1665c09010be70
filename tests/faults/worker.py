"""`python -m tests.faults.worker MOMENTS hftl-words`: one of several processes, which gets its signals as `MOMENTS` says.

`MOMENTS` is JSON: the rank → what `signal_at` takes.
"""

import json
import os
import sys

from hftl.cli import main
from tests.faults.server import signal_at


if __name__ == "__main__":
    for moment in json.loads(sys.argv[1]).get(os.environ["RANK"], []):
        signal_at(*moment)
    main(sys.argv[2:])
