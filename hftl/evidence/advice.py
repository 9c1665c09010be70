"""What to try next: a pure function of the verdict and a few facts. The choice of a method is `hftl.methods.policy`'s."""

from dataclasses import dataclass

from hftl.evaluation.bootstrap import Difference, Interval
from hftl.evaluation.scale import Scale
from hftl.evaluation.verdict import MOST_ROWS, Comparison, Verdict, stands
from hftl.methods import FROZEN_BODY, policy
from hftl.methods.policy import FEW, LOWER_RATE, RATE_STEP, Course, learns_more, look_at


CLOSER_DOMAIN = "take a model from a closer domain"
FINE_TUNE = "fine-tune instead of freezing the features"
ALL_LAYERS = "let every layer learn"
MORE_LABELS = "label more rows"
MORE_TEST_ROWS = "test on more rows"
NO_FLIP = "do not mirror"
NO_TRANSFER = "do not transfer: use the baseline"
# The verb that goes on from an advice, where it is not `hftl train` with its flags; without either nothing needs doing.
VERBS = {CLOSER_DOMAIN: "pick", MORE_LABELS: "curve", MORE_TEST_ROWS: "plan"}

# Pretraining that is shown to bring no more than this hardly helps: it brings tens of points as a rule. Ours.
HARDLY = 0.05
_ACCURACY = Scale()


@dataclass(frozen=True)
class Pretraining:
    """Probes on pretrained and on random weights, both fitted on the same rows and scored on the same test rows."""

    pretrained: float
    random: float
    difference: Difference  # pretrained minus random
    train_rows: int
    test_rows: int


@dataclass(frozen=True)
class Facts:
    """What the advice rests on: the headline score of the rungs on the test rows, None where one was not measured.

    No advice follows from two scores alone: where one model is called better than another, a paired test of the
    two on the same rows says so.
    """

    method: str  # as in hftl.methods, of a race the winner's
    score: float  # of the method
    rows_per_class: float  # median over what can be answered, training rows
    n_test: int
    baseline_name: str  # name of the best rung without pretraining
    baseline: float
    majority: float | None = None
    baseline_over_majority: Difference | None = None
    neighbours: float | None = None
    probe: float | None = None
    method_over_probe: Difference | None = None
    probe_over_baseline: Difference | None = None
    pretraining: Pretraining | None = None
    learning_rate: float | None = None  # None where nothing was learned by gradient
    cross_validated: Comparison | None = None  # the probe against the baseline on the training rows
    scale: Scale = _ACCURACY  # how the scores are written
    per: str = " per class"  # of `Output.words`, as those below
    guess: str = "the most frequent class"
    given: str = "label"
    course: Course | None = None  # of the training; None where nothing was learned by gradient
    full_seconds: float | None = None  # as the policy's facts, as the next
    width: int | None = None
    raced: frozenset[str] = frozenset()  # methods that a race has tried
    turned: str = ""  # which classes a mirror makes of each other, where the training mirrored

    @property
    def choice(self) -> policy.Facts:
        """What the policy makes its choice by."""
        compared = self.cross_validated
        gap, name = (compared.gap, compared.baseline) if compared else (None, "")
        return policy.Facts(
            self.rows_per_class, gap, name, self.full_seconds, width=self.width, scale=self.scale, per=self.per
        )

    def in_words(self, gap: Difference) -> str:
        """Return a difference of scores with its interval."""
        return self.scale.gap(Interval(gap.gap, gap.low, gap.high))


@dataclass(frozen=True)
class Advice:
    """What to do, and why in one sentence."""

    advice: str
    reason: str
    flags: str = ""  # for the next `hftl train`


def advise(verdict: Verdict, facts: Facts) -> list[Advice]:
    """Return what to try, the most promising first, each only where the figures speak for it; after a POSITIVE verdict
    too, for what worked may work better.

    Answers to negative transfer follow the other verdicts. "Use the baseline" comes last, after NEGATIVE
    and EQUIVALENT verdicts alone, and never for a baseline that is behind.
    """
    course: list[Advice | None] = [Advice(*step) for step in look_at(facts.course)] if facts.course else []
    steps = (
        Advice(NO_FLIP, f"{facts.turned}: mirrored, they are wrong examples.", "--no_flip") if facts.turned else None,
        _more_test_rows(verdict, facts),
        *(course or [_lower_rate(facts)]),  # what still improves is not spoiled
        _more_to_learn(verdict, facts),
        _closer_domain(facts) if verdict.label != "POSITIVE" else None,
        _more_labels(facts),
        _no_transfer(verdict, facts),
    )
    return [step for step in steps if step is not None]


def undecided(gap: float, n_test: int, rows_needed: int | None, scale: Scale = _ACCURACY) -> str:
    """Return in a sentence what an UNDECIDED verdict leaves open, and about how many test rows would decide it.

    `rows_needed` is that of the verdict: of scores that are a share of right rows, others have none.
    """
    rows = f"{n_test:,} test row{'' if n_test == 1 else 's'}"
    needed = f"more than {MOST_ROWS:,}" if rows_needed is None else f"about {_rounded(rows_needed):,}"
    if scale.gaps(gap) == scale.gaps(0.0):
        return f"Level with the baseline, but {rows} cannot show that the two are equally good."
    side = "Ahead" if gap > 0 else "Behind"
    by = scale.gaps(abs(gap))[0].removeprefix("+") + scale.unit
    return f"{side} by {by}, but {rows} cannot prove it: {f'{needed} test rows' if scale.right else 'more'} would."


def _rounded(rows: int) -> int:
    """Two digits: the estimate is no better than that."""
    step = 10 ** max(0, len(str(rows)) - 2)
    return -(-rows // step) * step


def _more_test_rows(verdict: Verdict, facts: Facts) -> Advice | None:
    if verdict.kind != "UNDECIDED":
        return None
    reason = undecided(verdict.gap, facts.n_test, verdict.rows_needed, facts.scale)
    compared = facts.cross_validated
    if compared is not None:
        reason += f" {stands(compared.gap, compared.baseline, facts.scale)}."
    return Advice(MORE_TEST_ROWS, reason)


def _lower_rate(facts: Facts) -> Advice | None:
    """A fine-tuned model that the paired test puts below its own probe has lost what the features held."""
    gap, probe = facts.method_over_probe, facts.probe
    if facts.method in FROZEN_BODY or probe is None or gap is None or gap.label != "NEGATIVE":
        return None
    rate = "" if facts.learning_rate is None else f" at a learning rate of {facts.learning_rate:g}"
    return Advice(
        LOWER_RATE,
        f"{facts.method}{rate} reaches {facts.scale.value(facts.score)}, less than the probe on the frozen features "
        f"({facts.scale.value(probe)}; {facts.in_words(gap)}): training spoiled features that were better before.",
        "" if facts.learning_rate is None else f"--learning_rate {facts.learning_rate / RATE_STEP:.2g}",
    )


def _more_to_learn(verdict: Verdict, facts: Facts) -> Advice | None:
    best = learns_more(facts.choice, facts.method)
    if best is None or best.method in facts.raced:
        return None
    flags = f"--method {best.method}"
    if facts.method not in FROZEN_BODY:
        return Advice(ALL_LAYERS if best.method == "full" else FINE_TUNE, best.reason, flags)
    stand = {"EQUIVALENT": "as good as", "UNDECIDED": "not shown to beat"}
    beside = stand.get(str(verdict.kind), "above" if verdict.label == "POSITIVE" else "below")
    reached = (
        f"Frozen features reach {facts.scale.value(facts.score)}, {beside} {facts.baseline_name} "
        f"({facts.scale.value(facts.baseline)})."
    )
    return Advice(FINE_TUNE, f"{reached} {best.reason}", flags)


def _closer_domain(facts: Facts) -> Advice | None:
    """Features are far from the data where pretraining did little for them, or where a probe on them loses."""
    same_rows = facts.pretraining
    if same_rows is not None and same_rows.difference.high <= HARDLY:
        return Advice(
            CLOSER_DOMAIN,
            f"Fitted on the same {same_rows.train_rows:,} rows and scored on the same {same_rows.test_rows:,}, the probe reaches "
            f"{facts.scale.value(same_rows.pretrained)} on pretrained weights and {facts.scale.value(same_rows.random)} on "
            f"random ones ({facts.in_words(same_rows.difference)}): what this model was pretrained on hardly helps here.",
        )
    gap = facts.probe_over_baseline
    if facts.probe is None or gap is None or gap.label != "NEGATIVE":
        return None
    return Advice(
        CLOSER_DOMAIN,
        f"The probe on this model's features reaches {facts.scale.value(facts.probe)}{_neighbours(facts)}, "
        f"{facts.baseline_name} without any pretraining {facts.scale.value(facts.baseline)} ({facts.in_words(gap)}): the features are far from this data.",
    )


def _neighbours(facts: Facts) -> str:
    return "" if facts.neighbours is None else f" and their nearest neighbours {facts.scale.value(facts.neighbours)}"


def _more_labels(facts: Facts) -> Advice | None:
    if not facts.choice.few:
        return None
    held = f"With {facts.rows_per_class:g} training rows{facts.per} (up to {FEW} are few)"
    return Advice(MORE_LABELS, f"{held} every method here is held back by the labels.")


def _no_transfer(verdict: Verdict, facts: Facts) -> Advice | None:
    if verdict.kind == "UNDECIDED" or verdict.gap > 0:
        return None
    guess = "."
    over_majority = facts.baseline_over_majority
    if facts.majority is not None and over_majority is not None and over_majority.label != "POSITIVE":
        guess = (
            f", but is not shown to beat {facts.guess} ({facts.scale.value(facts.majority)}): do the inputs tell the "
            f"{facts.given}?"
        )
    if verdict.label == "NEGATIVE":
        better = facts.scale.gaps(-verdict.gap, -verdict.high, -verdict.low)
        gap, low, high = (value.removeprefix("+") for value in better)
        by = f"{gap} points of" if facts.scale.share else f"{gap} in"
        reason = f"{facts.baseline_name} is better by {by} {facts.scale.name} (95% {low} to {high})"
    else:
        reason = f"{facts.baseline_name} does as well on {facts.n_test:,} test rows ({facts.in_words(verdict)} for transfer)"
    return Advice(NO_TRANSFER, f"{reason}, and costs far less{guess}")
