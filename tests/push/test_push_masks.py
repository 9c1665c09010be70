"""A model of masks on a Hub: what was pushed is downloaded again and paints the same masks."""

import pytest

from tests.command import shell
from tests.hub.target import HubTarget, target_fixture
from tests.push import LICENSE
from tests.test_segmentation import run, segformer, shapes  # noqa: F401 fixtures


target = target_fixture()
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")]


def test_push_and_check(target: HubTarget, run, tmp_path) -> None:  # noqa: F811
    repo = target.new_repo("masks")
    done = shell(["-m", "hftl", "push", run.run_dir, repo, "--license", LICENSE, "--json"], tmp_path, target.env)
    assert done.code == 0, done.err
    assert done.json["parity"]["labels_equal"] is True
    assert done.json["parity"]["max_difference"] <= done.json["parity"]["tolerance"]
    names = {name for name in target.files(repo) if name.endswith(".png")}
    assert names == {"confusion.png", "ladder.png"}
