"""What models without pretraining reach on the very same split."""

from typing import Any

import numpy as np
from datasets import Dataset

from hftl.evaluation.baselines import Baseline, majority_class
from hftl.evaluation.image_baseline import colour_histogram_logistic_regression, raw_pixel_logistic_regression
from hftl.evaluation.text_baseline import tfidf_logistic_regression
from hftl.tasks.encoded import EncodedImages, EncodedText


def no_pretraining_baselines(
    train: Dataset, test: Dataset, encoded_train: Any, encoded_test: EncodedText | EncodedImages
) -> list[Baseline]:
    """Fit the baselines of the modality on `train` and predict `test`; `best_baseline` says which one counts."""
    labels = np.asarray(train["label"][:])
    found = [majority_class(labels, len(test))]
    if isinstance(encoded_test, EncodedText):
        found.append(tfidf_logistic_regression(train["text"][:], labels, test["text"][:]))
    elif encoded_test.pixels.dtype == np.uint8:
        pixels = [np.moveaxis(e.pixels, 1, -1) for e in (encoded_train, encoded_test)]
        found.append(colour_histogram_logistic_regression(pixels[0], labels, pixels[1]))
        found.append(raw_pixel_logistic_regression(pixels[0], labels, pixels[1]))
    return found
