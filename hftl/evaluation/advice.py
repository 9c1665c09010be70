"""What to try when transfer did not pay: a pure function of the verdict and a few facts."""

from dataclasses import dataclass

from hftl.evaluation.verdict import Verdict


CLOSER_DOMAIN = "take a model from a closer domain"
FINE_TUNE = "fine-tune instead of freezing the features"
LOWER_RATE = "lower the learning rate, or give lower layers lower rates"
MORE_LABELS = "label more rows"
NO_TRANSFER = "do not transfer: use the baseline"

# Up to so many rows per class are few: the figure of hftl.planning.recommend (ANCHORS.md, F).
FEW_PER_CLASS = 32
# Width of the interval, as a share of all rows, from which it cannot tell a useful gap from none. Rule of thumb, ours.
WIDE = 0.05
# Accuracies this close are level, where there is no interval to say so. Rule of thumb, ours: with 1,000 test rows
# about one standard error.
LEVEL = 0.01
# Methods whose features stay as pretraining left them.
FROZEN = ("probe", "head")


@dataclass(frozen=True)
class Facts:
    """What the advice rests on: accuracies are shares of the test rows, None where a rung was not measured."""

    method: str  # as in hftl.methods
    accuracy: float  # of the method
    rows_per_class: float  # median over the classes, training rows
    n_test: int
    baseline_name: str  # name of the best rung without pretraining
    baseline: float
    majority: float | None = None
    neighbours: float | None = None
    probe: float | None = None
    random_probe: float | None = None  # probe on the same architecture with random weights
    learning_rate: float | None = None  # None where nothing was learned by gradient


@dataclass(frozen=True)
class Advice:
    """What to do, and why in one sentence."""

    advice: str
    reason: str


def advise(verdict: Verdict, facts: Facts) -> list[Advice]:
    """Return what to try after a NEGATIVE or NEUTRAL verdict, the most promising first; nothing after a POSITIVE one.

    The guide's answers to negative transfer, each only where the figures speak for it. After a NEGATIVE verdict the
    baseline comes last: it is the better model as long as nothing of the rest has been tried.
    """
    if verdict.label == "POSITIVE":
        return []
    steps = (
        _lower_rate(facts),
        _fine_tune(verdict, facts),
        _closer_domain(verdict, facts),
        _more_labels(verdict, facts),
    )
    return [step for step in (*steps, _no_transfer(verdict, facts)) if step is not None]


def _lower_rate(facts: Facts) -> Advice | None:
    """A fine-tuned model below its own probe has lost what the features held."""
    probe = facts.probe
    if facts.method in FROZEN or probe is None or facts.accuracy >= probe:
        return None
    rate = "" if facts.learning_rate is None else f" at a learning rate of {facts.learning_rate:g}"
    return Advice(
        LOWER_RATE,
        f"{facts.method}{rate} reaches {_percent(facts.accuracy)}, less than the probe on the frozen features "
        f"({_percent(probe)}): training spoiled features that were better before.",
    )


def _fine_tune(verdict: Verdict, facts: Facts) -> Advice | None:
    if facts.method not in FROZEN or facts.rows_per_class <= FEW_PER_CLASS:
        return None
    stands = "below" if verdict.label == "NEGATIVE" else "no better than"
    return Advice(
        FINE_TUNE,
        f"Frozen features reach {_percent(facts.accuracy)}, {stands} {facts.baseline_name} "
        f"({_percent(facts.baseline)}), and {facts.rows_per_class:g} rows per class are enough to let the "
        f"layers learn (more than {FEW_PER_CLASS}).",
    )


def _closer_domain(verdict: Verdict, facts: Facts) -> Advice | None:
    """Features are far from the data where pretraining did little for them, or where even the best use of them loses."""
    probe, random = facts.probe, facts.random_probe
    if facts.probe is None and facts.method in FROZEN:
        probe = facts.accuracy
    if probe is not None and random is not None and probe - random <= LEVEL:
        return Advice(
            CLOSER_DOMAIN,
            f"The probe reaches {_percent(probe)} on pretrained weights and {_percent(random)} on random ones: what "
            "this model was pretrained on hardly helps here.",
        )
    if verdict.label != "NEGATIVE" or probe is None or probe >= facts.baseline:
        return None
    return Advice(
        CLOSER_DOMAIN,
        f"The probe on this model's features reaches {_percent(probe)}{_neighbours(facts)}, {facts.baseline_name} without "
        f"any pretraining {_percent(facts.baseline)}: the features are far from this data.",
    )


def _neighbours(facts: Facts) -> str:
    return "" if facts.neighbours is None else f" and their nearest neighbours {_percent(facts.neighbours)}"


def _more_labels(verdict: Verdict, facts: Facts) -> Advice | None:
    if facts.rows_per_class <= FEW_PER_CLASS:
        return Advice(
            MORE_LABELS,
            f"With {facts.rows_per_class:g} training rows per class (up to {FEW_PER_CLASS} are few) every method here "
            "is held back by the labels.",
        )
    if verdict.label == "NEUTRAL" and verdict.high - verdict.low > WIDE:
        return Advice(
            MORE_LABELS,
            f"With {facts.n_test:,} test rows the gap is known to lie between {_points(verdict.low)} and "
            f"{_points(verdict.high)} points only: more test rows could still show a difference either way.",
        )
    return None


def _no_transfer(verdict: Verdict, facts: Facts) -> Advice:
    guess = "."
    if facts.majority is not None and facts.baseline - facts.majority <= LEVEL:
        guess = (
            f", but hardly beats the most frequent class ({_percent(facts.majority)}): do the inputs tell the label?"
        )
    if verdict.label == "NEGATIVE":
        gap, low, high = (_points(-value, signed=False) for value in (verdict.gap, verdict.high, verdict.low))
        reason = f"{facts.baseline_name} is better by {gap} points of accuracy (95% {low} to {high})"
    else:
        gap, low, high = (_points(value) for value in (verdict.gap, verdict.low, verdict.high))
        reason = f"{facts.baseline_name} does as well, as far as {facts.n_test:,} test rows can tell "
        reason += f"({gap} points for transfer, 95% {low} to {high})"
    return Advice(NO_TRANSFER, f"{reason}, and costs far less{guess}")


def _percent(accuracy: float) -> str:
    return f"{100 * accuracy:.1f}%"


def _points(gap: float, *, signed: bool = True) -> str:
    return f"{100 * gap:+.1f}" if signed else f"{100 * gap:.1f}"
