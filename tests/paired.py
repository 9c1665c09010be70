"""Intervals and verdicts of class ids, whatever integers these are: what `hftl.tasks.scores` does with codes."""

import numpy as np

from hftl.evaluation.bootstrap import RESAMPLES, intervals, paired_differences
from hftl.evaluation.metrics import COMPARED, SCORES, add_made_up, class_statistics
from hftl.evaluation.row_scores import row_scores
from hftl.evaluation.verdict import Verdict, paired_p, verdict_of


SHOWN = {name: SCORES[name] for name in COMPARED}


def bootstrap_intervals(predictions, references, **options):
    names, codes = np.unique(np.stack([predictions, references]), return_inverse=True)
    return intervals(class_statistics(*codes.reshape(2, -1), len(names)), SHOWN, **options)


def compare_paired(method, baseline, references, resamples: int = RESAMPLES, seed: int = 0) -> Verdict:
    names, codes = np.unique(np.stack([references, method, baseline]), return_inverse=True)
    true, *answers = codes.reshape(3, -1)
    statistics = [class_statistics(ids, true, len(names)) for ids in answers]
    right = (answers[0] == true, answers[1] == true)
    gaps = paired_differences(*statistics, SHOWN, {"accuracy": paired_p(*right)}, add_made_up, resamples, seed)
    return verdict_of(gaps, right, len(true))


def log_loss(logits, references) -> float:
    return float(row_scores(logits, references).loss.mean())
