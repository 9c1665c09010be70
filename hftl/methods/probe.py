"""`probe`: logistic regression on frozen features, in closed form (Alain & Bengio 2016, linear classifier probes)."""

from hftl.config import MethodConfig
from hftl.methods.plan import Loaded, Method, Plan, plan_of


def probe(loaded: Loaded, config: MethodConfig, n_train: int) -> Plan:
    """One closed-form stage; the body never moves. C, and the pooling of a text, come from cross-validation."""
    return plan_of(loaded, config, (), {})


PROBE = Method(
    "probe",
    "logistic regression on frozen features: seconds, no epochs, the first thing to try",
    "a simple classifier on top of the frozen model",
    probe,
    rows=8,  # the fewest at which SetFit (Tunstall et al. 2022) reports few-shot results
    frozen_body=True,
    may_pool=True,
    by_gradient=False,
    needs_probe=True,
)
