"""`probe`: logistic regression on frozen features, in closed form (Alain & Bengio 2016, linear classifier probes)."""

from hftl.config import MethodConfig
from hftl.methods.plan import Plan, probe_stage
from hftl.models.load import Loaded


def probe(loaded: Loaded, config: MethodConfig, n_train: int) -> Plan:
    """One closed-form stage; the body never moves. C, and the pooling of a text, come from cross-validation."""
    stages = (probe_stage(loaded.model, loaded.outputs),)
    return Plan(loaded.model, loaded.output, loaded.layers, stages, averaged=loaded.averaged)
