"""Exports without the wait: no test looks at how long anything took, so that a few timed calls are enough."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _few_calls():
    from hftl.export import timing

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        for name, value in (("_CALLS", 2), ("_LEAST", 1), ("_WARM_UP", 1)):
            patch.setattr(timing, name, value)
        yield
