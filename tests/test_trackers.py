"""`--report_to`: a package that is missing is named before any work; each tracker writes a run into a local folder."""

import importlib.util

import pytest

from hftl.errors import ConfigError, install_extra
from hftl.surroundings import check_trackers
from tests.command import environment, hftl, shell, text_csv
from tests.tiny import build


# Each tracker, where it is told to write (it goes to no network), and what its folder holds afterwards.
TRACKERS = {
    "tensorboard": ({"TENSORBOARD_LOGGING_DIR": "logs"}, "**/events.out.tfevents.*"),
    "wandb": ({"WANDB_MODE": "offline", "WANDB_DIR": "logs"}, "**/run-*.wandb"),
    "trackio": ({"TRACKIO_DIR": "logs"}, "*.db"),
}


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_named_with_its_extra(name, monkeypatch, tmp_path, capsys):
    real = importlib.util.find_spec
    hidden = (name, "tensorboardX")
    monkeypatch.setattr(importlib.util, "find_spec", lambda one, *more: None if one in hidden else real(one, *more))
    done = hftl(capsys, "train", "text-classification", "--data", text_csv(tmp_path / "t.csv"), "--report_to", name)
    assert (done.code, done.err) == (
        2,
        f"error: --report_to {name} needs the package {name}: {install_extra(name)}\n",
    )
    with pytest.raises(ConfigError, match=name):
        check_trackers(["none", name])


def test_others_are_left_to_the_trainer():
    check_trackers(None)
    check_trackers("none")
    check_trackers(["mlflow"])


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACKERS)
def test_a_run_is_tracked_in_a_local_folder(name, tmp_path):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: {install_extra(name)}")
    variables, written = TRACKERS[name]
    build("bert", tmp_path / "bert")
    text_csv(tmp_path / "t.csv")
    words = [
        "train",
        "text-classification",
        "--data",
        "t.csv",
        "--model",
        "bert",
        "--method",
        "head",
        "--max_steps",
        "4",
    ]
    words += [
        "--evidence",
        "off",
        "--use_cpu",
        "true",
        "--logging_steps",
        "1",
        "--report_to",
        name,
        "--output_dir",
        "out",
    ]
    (tmp_path / "logs").mkdir()
    env = environment(**{key: value.replace("logs", str(tmp_path / "logs")) for key, value in variables.items()})
    done = shell(["-m", "hftl", *words], tmp_path, {**env, "HFTL_CACHE": str(tmp_path / "cache")})
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "report.json").is_file()
    files = [path for path in (tmp_path / "logs").glob(written) if path.stat().st_size]
    assert files, sorted(map(str, tmp_path.rglob("*")))[:60]
