# Written by `python -m tests.write_stubs`: change hftl/__init__.py instead.

from hftl.adapt import Result as Result
from hftl.adapt import adapt as adapt
from hftl.adapt import plan as plan
from hftl.config import DataConfig as DataConfig
from hftl.config import MethodConfig as MethodConfig
from hftl.config import ModelConfig as ModelConfig
from hftl.config import RunConfig as RunConfig
from hftl.demo.app import launch_demo as launch_demo
from hftl.doctor import doctor as doctor
from hftl.errors import HftlError as HftlError
from hftl.export import export as export
from hftl.methods import METHODS as METHODS
from hftl.predict import Prediction as Prediction
from hftl.predict import Predictor as Predictor
from hftl.predict import load as load
from hftl.publishing.hub import push_to_hub as push_to_hub
from hftl.selection.compare import compare as compare
from hftl.selection.curve import curve as curve
from hftl.selection.pick import pick as pick
from hftl.tasks import TASKS as TASKS

__version__: str
