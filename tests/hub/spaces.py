"""What the tests' Hub knows of Spaces beyond their files: variables, secrets, hardware, runtime. Nothing is run."""

from tests.hub.reads import Endpoint, space_runtime
from tests.hub.replies import HubError, Reply, Request, json_reply
from tests.hub.repos import HubState, Repository, now


HARDWARE = frozenset({"cpu-basic", "cpu-upgrade", "zero-a10g", "t4-small", "t4-medium", "l4x1", "a10g-small"})


def _space(state: HubState, request: Request, kind: str, hub_id: str) -> Repository:
    if kind != "spaces":
        raise HubError(404, "Not found", "EntryNotFound")
    return state.writable(request, kind, hub_id)


def variables(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    space = _space(state, request, kind, hub_id)
    if request.method != "GET":
        asked = request.json()
        with state.lock:
            if request.method == "DELETE":
                space.variables.pop(asked["key"], None)
            else:
                found = {"value": asked["value"], "updatedAt": now()}
                found |= {"description": asked["description"]} if asked.get("description") else {}
                space.variables[asked["key"]] = found
    return json_reply(space.variables)


def secrets(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    """Record the name of a secret. Refused unless `allow_secrets` says that the test expects one."""
    space = _space(state, request, kind, hub_id)
    if request.method != "GET":
        asked = request.json()
        with state.lock:
            space.secrets[asked["key"]] = {"updatedAt": now()}
        if not state.allow_secrets:
            raise HubError(403, "No secret is expected here: set allow_secrets on the server if one is")
    return json_reply(space.secrets)


def runtime(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    if kind != "spaces":
        raise HubError(404, "Not found", "EntryNotFound")
    return json_reply(space_runtime(state.readable(request, kind, hub_id)))


def hardware(state: HubState, request: Request, kind: str, hub_id: str, rest: list[str]) -> Reply:
    space, flavor = _space(state, request, kind, hub_id), request.json().get("flavor")
    if flavor not in HARDWARE:
        raise HubError(400, f"Unknown hardware {flavor!r}")
    with state.lock:
        space.hardware = flavor
    return json_reply(space_runtime(space))


SPACES: dict[tuple[str, str], Endpoint] = {
    **{(method, "variables"): variables for method in ("GET", "POST", "DELETE")},
    **{(method, "secrets"): secrets for method in ("GET", "POST")},
    ("GET", "runtime"): runtime,
    ("POST", "hardware"): hardware,
}
