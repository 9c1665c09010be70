"""`auto`: the probe, then a race of the other methods for a budget, then averaging; hftl/selection/race.py runs it."""

from hftl.methods.plan import Method
from hftl.methods.probe import PROBE


AUTO = Method(
    "auto",
    "the probe, then a race of the others within --budget; the best on validation is averaged and kept",
    "the method that won a race on the validation rows",
    PROBE.build,  # what the race has to beat
    rows=PROBE.rows,
    flags=("budget", "race"),
    may_pool=True,
    needs_probe=True,
)
