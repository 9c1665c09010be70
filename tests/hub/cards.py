"""The check that the Hub makes of a README's front matter. PyYAML reads it; the rules are those the Hub documents."""

import re
from typing import Any


_LICENSES = (
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m "
    "afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 "
    "cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 "
    "cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl "
    "gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr "
    "mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr "
    "deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 "
    "grok2-community gemma unknown other"
)
LICENSES = frozenset(_LICENSES.split())
COLORS = frozenset({"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"})
SDKS = frozenset({"gradio", "docker", "static", "streamlit"})

_FRONT_MATTER = re.compile(r"\A(?:\ufeff)?\s*---[ \t]*\r?\n(.*?)(?:\r?\n)?^---[ \t]*$", re.DOTALL | re.MULTILINE)
_REPO_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_TEXTS = ("license", "license_name", "license_link", "library_name", "pipeline_tag", "title", "emoji", "app_file")
_LISTS = ("tags", "datasets", "metrics", "models")


def front_matter(content: str) -> dict[str, Any] | None:
    """The README's metadata; None where it has none. Raises ValueError for what is not YAML."""
    import yaml

    match = _FRONT_MATTER.match(content)
    if match is None:
        return None
    try:
        data = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        raise ValueError(f"YAML Metadata Error: {error}") from None
    if data is not None and not isinstance(data, dict):
        raise ValueError("YAML Metadata Error: the metadata must be a mapping")
    return data


def card_problems(content: str, kind: str) -> tuple[list[str], list[str]]:
    """(errors, warnings) of a README of a `model`, `dataset` or `space`."""
    try:
        data = front_matter(content)
    except ValueError as error:
        return [str(error)], []
    if data is None:
        return [], ["empty or missing yaml metadata in repo card"]
    errors = [f'"{key}" must be a string' for key in _TEXTS if key in data and not _is_text(data[key])]
    errors += [f'"{key}" must be an array of strings' for key in _LISTS if key in data and not _are_texts(data[key])]
    errors += _license_problems(data) + _base_model_problems(data.get("base_model"))
    if kind == "model" and "model-index" in data:
        errors += _model_index_problems(data["model-index"])
    if kind == "space":
        errors += _space_problems(data)
    return errors, []


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and _are_texts(value))


def _are_texts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _license_problems(data: dict[str, Any]) -> list[str]:
    named = data.get("license")
    found = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    wrong = [item for item in found if item not in LICENSES]
    return [f'"license" must be one of the Hub\'s identifiers, not {item!r}' for item in wrong]


def _base_model_problems(value: Any) -> list[str]:
    if value is None:
        return []
    found = value if isinstance(value, list) else [value]
    wrong = [item for item in found if not (isinstance(item, str) and _REPO_ID.fullmatch(item))]
    return [f'"base_model" must be a repository id, not {item!r}' for item in wrong]


def _model_index_problems(index: Any) -> list[str]:
    if not isinstance(index, list) or not all(isinstance(entry, dict) for entry in index):
        return ['"model-index" must be an array']
    problems = []
    for number, entry in enumerate(index):
        where = f"model-index[{number}]"
        problems += [] if isinstance(entry.get("name"), str) else [f'"{where}.name" is required']
        results = entry.get("results")
        if not isinstance(results, list):
            problems.append(f'"{where}.results" must be an array')
            continue
        for place, result in enumerate(results):
            problems += _result_problems(f"{where}.results[{place}]", result)
    return problems


def _result_problems(where: str, result: Any) -> list[str]:
    if not isinstance(result, dict):
        return [f'"{where}" must be an object']
    needed = (("task", "type"), ("dataset", "name"), ("dataset", "type"))
    problems = [
        f'"{where}.{part}.{key}" is required'
        for part, key in needed
        if not isinstance(result.get(part), dict) or not result[part].get(key)
    ]
    metrics = result.get("metrics")
    if not isinstance(metrics, list) or not metrics:
        return [*problems, f'"{where}.metrics" is required']
    for number, metric in enumerate(metrics):
        for key in ("type", "value"):
            if not isinstance(metric, dict) or metric.get(key) is None:
                problems.append(f'"{where}.metrics[{number}].{key}" is required')
    return problems


def _space_problems(data: dict[str, Any]) -> list[str]:
    problems = [] if data.get("sdk") in SDKS else [f'"sdk" must be one of {", ".join(sorted(SDKS))}']
    for key in ("colorFrom", "colorTo"):
        if key in data and data[key] not in COLORS:
            problems.append(f'"{key}" must be one of {", ".join(sorted(COLORS))}')
    if len(str(data.get("short_description", ""))) > 60:
        problems.append('"short_description" length must be less than or equal to 60 characters long')
    if "sdk_version" in data and not isinstance(data["sdk_version"], str):
        problems.append('"sdk_version" must be a string')
    return problems
