"""scikit-learn estimators: a pretrained model fitted to X and y, in `cross_val_score`, `GridSearchCV` or a `Pipeline`."""

import io
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_is_fitted

from hftl.adapt import adapt
from hftl.config import OWN_FLAGS, trainer_fields
from hftl.data.columns import as_rows
from hftl.errors import HftlError, did_you_mean
from hftl.predict import Predictor


if TYPE_CHECKING:
    from hftl.flags import Flags

_TEST_ROWS = 20  # of the training rows: a run scores some, and what an estimator reaches is for its caller to measure
_KEPT_NAME = re.compile(r"-?\d+|[^\W\d].*", re.DOTALL)  # of a class that hftl calls so, too: "1.0" would be "1"


@cache
def _known_flags() -> frozenset[str]:
    return frozenset({*OWN_FLAGS, *trainer_fields()})


@contextmanager
def _value_errors() -> Iterator[None]:
    """Raise hftl's errors as the ones that scikit-learn expects of bad input."""
    try:
        yield
    except HftlError as error:
        raise ValueError(str(error)) from error


class _Transfer(BaseEstimator):
    """What both estimators do."""

    predictor_: Predictor

    def __init__(
        self,
        model: str | None = None,
        method: str = "probe",
        *,
        task: str | None = None,
        random_state: Any = None,
        verbose: bool = False,
        **flags: "Unpack[Flags]",
    ):
        self.model = model
        self.method = method
        self.task = task
        self.random_state = random_state
        self.verbose = verbose
        for name, value in flags.items():
            setattr(self, name, value)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters: those of `__init__` and the flags that were given."""
        return {name: value for name, value in vars(self).items() if not name.endswith("_") and name[0] != "_"}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, flags that were not given before included. Raises `ValueError` for an unknown one."""
        known = _known_flags() | self.get_params().keys()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"Invalid parameter {name!r} for {type(self).__name__}.{did_you_mean(name, known)}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = False, True, True
        return tags

    def _targets(self, X: Any, y: Any, dtype: Any = None) -> np.ndarray:  # noqa: N803
        """Return y as an array [n]. Raises `ValueError` as other estimators do."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        check_consistent_length(X, y)
        targets: np.ndarray = column_or_1d(y, dtype=dtype, warn=True)
        if len(targets) < 2:
            raise ValueError(f"n_samples={len(targets)}: there is nothing to learn from fewer than two rows")
        assert_all_finite(np.asarray(y, dtype=object), input_name="y")  # beside texts numpy makes NaN a text
        assert_all_finite(targets, input_name="y")
        return targets

    def _fit(self, X: Any, y: list[Any], **more: Any) -> Self:  # noqa: N803 (scikit-learn's name)
        flags = self.get_params() | more
        random_state, verbose = flags.pop("random_state"), flags.pop("verbose")
        if random_state is not None:
            flags["seed"] = int(check_random_state(random_state).randint(2**31 - 1))
        rows = as_rows(_rows(X))
        data = {"train": (rows, y), "test": (rows[:_TEST_ROWS], y[:_TEST_ROWS])}
        with _value_errors(), TemporaryDirectory() as folder, ExitStack() as quiet:
            for redirect in () if verbose else (redirect_stdout, redirect_stderr):
                quiet.enter_context(redirect(io.StringIO()))
            run = {"data": data, "output_dir": f"{folder}/run", "evidence": False, **flags}
            self.predictor_ = adapt(**run).predictor
        return self

    def _answers(self, X: Any) -> Any:  # noqa: N803
        check_is_fitted(self)
        with _value_errors():
            return self.predictor_.predict(_rows(X))


def _rows(X: Any) -> Any:  # noqa: N803
    """Return X as hftl takes it: a column of texts in two dimensions is an array of them."""
    return X[:, 0] if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == 1 else X


class TransferClassifier(ClassifierMixin, _Transfer):
    """A classifier of texts or images made from a pretrained model.

    X is a list, array or Series of texts; images (PIL, uint8 pixels, or with `task="image-classification"` paths); or a
    DataFrame, such as of pairs. A tenth of the rows (`validation_size`) is kept to calibrate the probabilities by.

    Args:
        model: a folder, a packaged checkpoint or a Hub id.
        method: which weights learn, see `hftl.METHODS`.
        task: by default the data tell.
        random_state: seed of the cut and the training.
        verbose: print what `hftl.adapt` prints.
        flags: every other flag of `hftl.adapt`; `set_params` and `GridSearchCV` take them, too.

    Examples:
        >>> cross_val_score(TransferClassifier("all-MiniLM-L6-v2"), texts, labels)
    """

    classes_: np.ndarray

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Adapt the model to the rows. Raises `ValueError` for what cannot be learnt from."""
        y = self._targets(X, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        names = [str(name) for name in self.classes_]
        if len({*names}) < len(names) or not all(map(_KEPT_NAME.fullmatch, names)):
            names = [f"class {i}" for i in range(len(names))]
        self._fit(X, [names[code] for code in codes], problem_type="single_label_classification")
        self._order_ = [self.predictor_.labels.index(name) for name in names]
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the probability of every one of `classes_`, [n, classes]."""
        check_is_fitted(self)
        with _value_errors():
            return self.predictor_.predict_proba(_rows(X))[:, self._order_]

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the most probable of `classes_` for each row, [n]."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class TransferRegressor(RegressorMixin, _Transfer):
    """A regression of a number on texts or images, made from a pretrained model; all else is as of `TransferClassifier`.

    Examples:
        >>> TransferRegressor("all-MiniLM-L6-v2").fit(texts, prices).predict(["a new text"])
    """

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Adapt the model to the rows. Raises `ValueError` for what cannot be learnt from."""
        return self._fit(X, self._targets(X, y, np.float64).tolist(), problem_type="regression")

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the number for each row, [n]."""
        return np.array([answer.value for answer in self._answers(X)])
