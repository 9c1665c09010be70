"""A run as small as any, whose config names a file of data and a model of this machine."""

import pytest
import yaml

from tests.command import hftl, text_csv
from tests.tiny import build


CONFIG = {
    "task": "text-classification",
    "data": "t.csv",
    "model": "./bert",
    "method": "full",
    "evidence": "quick",
    "use_cpu": True,
    "bf16": False,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
}


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    build("bert", folder / "bert")
    text_csv(folder / "t.csv", 120)
    return folder


@pytest.fixture
def write(capsys, monkeypatch, inputs):
    """Write a job for an engine, with flags of hftl job and lines of the config that differ; return what it said."""
    monkeypatch.chdir(inputs)

    def job(engine, output_dir, *flags, config=None, quick=True):
        (inputs / "RUN.yaml").write_text(yaml.safe_dump(CONFIG | (config or {})))
        more = ["--time_limit", "2h", "--hftl_source", "hftl==0.1.0"] if quick else []
        return hftl(capsys, "job", "--engine", engine, "RUN.yaml", "--output_dir", output_dir, *more, *flags)

    return job
