"""What models without pretraining reach on the very same split."""

from typing import Any

import numpy as np
from datasets import Dataset

from hftl.evaluation.baselines import Baseline, majority_class
from hftl.evaluation.image_baseline import colour_histogram_logistic_regression, raw_pixel_logistic_regression
from hftl.evaluation.text_baseline import tfidf_logistic_regression
from hftl.tasks import INPUTS


_FITS = {
    "tfidf": tfidf_logistic_regression,
    "colour_histogram": colour_histogram_logistic_regression,
    "raw_pixels": raw_pixel_logistic_regression,
}


def no_pretraining_baselines(train: Dataset, test: Dataset, encoded_train: Any, encoded_test: Any) -> list[Baseline]:
    """Fit the baselines of the modality on `train` and predict `test`; `best_baseline` says which one counts."""
    labels = np.asarray(train["label"][:])
    baselines = [majority_class(labels, len(test))]
    inputs = next(inputs for inputs in INPUTS.values() if {*inputs.columns} <= {*train.column_names})
    if inputs.raw is None:
        rows = [table[inputs.columns[0]][:] for table in (train, test)]
    else:
        rows = [inputs.raw(encoded) for encoded in (encoded_train, encoded_test)]
    if rows[1] is not None:
        baselines += [_FITS[kind](rows[0], labels, rows[1]) for kind in inputs.features]
    return baselines
