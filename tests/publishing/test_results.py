"""Results in the Hub's own forms: read back by huggingface_hub's own readers."""

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from hftl.publishing.metadata import eval_entries, hub_data, model_index, source_split, write_eval_results
from tests.hub.server import HubServer
from tests.hub.target import in_process
from tests.publishing.card_cases import example_report


WHOLE = {"test": "test"}


def of_data(name: str, splits: dict[str, str] | None = None) -> dict:
    report = example_report()
    report["data"] |= {"name": name, "source_splits": WHOLE if splits is None else splits}
    return report


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ns/data", ("ns/data", None, None)),
        ("ns/data:small@v1.0", ("ns/data", "small", "v1.0")),
        ("ns/data@refs/convert/parquet", ("ns/data", None, "refs/convert/parquet")),
        ("sample:digits", None),
        ("tickets.csv", None),
        ("a DataFrame", None),
        ("", None),
    ],
)
def test_data_on_the_hub_are_told_by_their_namespace(name, parts):
    found = hub_data(name)
    assert parts == (found and (found.id, found.config, found.revision))


def test_reports_that_name_no_split_of_the_source():
    report = of_data("ns/data")
    assert source_split(report) == "test"
    del report["data"]["source_splits"]
    assert source_split(report) is None


@pytest.mark.parametrize("name", ["ns/data:small@v1", "sample:digits", "tickets.csv"])
def test_model_index_round_trip(name):
    report = of_data(name)
    report["metrics"]["test"] |= {"macro_precision": 0.81, "macro_recall": 0.79}
    results = model_index(report)
    model, read = model_index_to_eval_results(eval_results_to_model_index("a-model", results))
    assert model == "a-model"
    assert [(r.metric_type, r.metric_value) for r in read] == [
        ("accuracy", 0.84), ("f1", 0.8), ("precision", 0.81), ("recall", 0.79)
    ]  # fmt: skip
    assert {r.task_type for r in read} == {"text-classification"}
    on_hub = name.startswith("ns/")
    assert {r.dataset_type for r in read} == {"ns/data" if on_hub else "local"}
    assert {r.dataset_name for r in read} == {"ns/data" if on_hub else name}
    assert {r.dataset_config for r in read} == {"small" if on_hub else None}
    assert read[1].metric_args == {"average": "macro"}


def test_eval_results_round_trip(tmp_path):
    report = of_data("ns/data@" + "a" * 40)
    (path,) = write_eval_results(tmp_path, eval_entries(report, "me/model", online=False))
    assert path == tmp_path / ".eval_results" / "data.yaml"
    (entry,) = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    assert (entry.dataset_id, entry.task_id, entry.dataset_revision) == ("ns/data", "default", "a" * 40)
    assert entry.value == 84.0
    assert entry.notes == "accuracy in percent on all 60 rows of test, 95% interval 79.0 to 89.0"
    assert entry.source_url == "https://huggingface.co/me/model/blob/main/report.json"


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("tickets.csv", WHOLE),
        ("sample:digits", WHOLE),
        ("ns/data", {"validation": "validation"}),
        ("ns/data", {}),
    ],
)
def test_no_entry_for_what_no_leaderboard_can_compare(tmp_path, name, splits):
    assert write_eval_results(tmp_path, eval_entries(of_data(name, splits), "me/model")) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("eval_yaml", "task"),
    [
        ("tasks:\n- id: other\n  config: large\n  split: test\n- id: mine\n  config: small\n  split: test\n", "mine"),
        ("tasks:\n- id: other\n  config: large\n  split: test\n", "small"),
        ("tasks: [\n", "small"),
        ("- a list\n", "small"),
        (None, "small"),
    ],
)
def test_the_task_is_the_one_of_the_data_set_itself(tmp_path, eval_yaml, task):
    folder = tmp_path / "hub" / "datasets" / "ns" / "data"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# data\n")
    if eval_yaml is not None:
        (folder / "eval.yaml").write_text(eval_yaml)
    with HubServer(tmp_path / "hub") as hub, in_process(hub.url, hub.token, tmp_path / "home"):
        (entry,) = eval_entries(of_data("ns/data:small"), None)
    assert entry.task_id == task
    assert entry.source_url is None
