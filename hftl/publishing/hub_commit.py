"""The one commit of a push: what goes in, what an earlier model leaves behind, and that it is made once."""

from dataclasses import replace
from fnmatch import fnmatchcase

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from hftl.publishing.bundle import Bundle
from hftl.publishing.hub_faults import HubError
from hftl.publishing.hub_repository import Target, at_branch
from hftl.publishing.hub_retries import NOT_DONE, persist


# What a push writes. A new model without one of these must not lie beside an old one's: loaders would take it up.
OF_A_MODEL = (
    "model*.safetensors", "model.safetensors.index.json", "adapter_model.safetensors", "adapter_config.json",
    "adapter/adapter_model.safetensors", "adapter/adapter_config.json", "modeling_pooled.py", "config.json", "preprocessor_config.json", "processor_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "chat_template.jinja",
    "report.json", "config.yaml", ".eval_results/*", "examples/[0-9]*.png",
)  # fmt: skip
_STORED = (".safetensors", ".model", ".png")  # what the Hub keeps in large file storage, beside anything large
_LARGE = 5_000_000  # bytes


def left_behind(target: Target, bundle: Bundle) -> list[str]:
    """Return the files of an earlier model in the repository that the new one lacks."""
    new = set(bundle.files)
    return [name for name in target.files if name not in new and any(fnmatchcase(name, p) for p in OF_A_MODEL)]


def commit_bundle(api: HfApi, target: Target, bundle: Bundle, message: str, *, create_pr: bool) -> CommitInfo:
    """Make the commit and return it; the branch's own last commit when nothing is new.

    It is all or nothing, and refused (412) when somebody else committed meanwhile. Asked again after an answer was
    lost, it finds its own commit there and has nothing to do. A pull request has no such memory, and is asked for
    again only when the Hub surely did not open it.
    """
    tries = 0

    def once() -> CommitInfo:
        nonlocal tries
        tries += 1
        if tries == 1:
            return _commit(api, target, bundle, message, create_pr=create_pr)
        now = at_branch(api, target)  # the earlier try may have arrived
        files = tuple(sibling.rfilename for sibling in now.siblings or [])
        return _commit(api, replace(target, files=files), bundle, message, create_pr=create_pr)

    doing = f"committing to {target.repo_id}"
    if not create_pr:
        return persist(once, doing)
    try:
        return persist(once, doing, network=False, statuses=NOT_DONE)
    except HTTPError as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status is not None and (status < 500 or status in NOT_DONE):
            raise
        raise HubError(
            f"The Hub did not say whether the pull request was opened ({status or type(error).__name__}): look at "
            f"{constants.ENDPOINT}/{target.repo_id}/discussions before you push again."
        ) from error


def _commit(api: HfApi, target: Target, bundle: Bundle, message: str, *, create_pr: bool) -> CommitInfo:
    additions = [CommitOperationAdd(name, bundle.folder / name) for name in bundle.files]
    removals = [CommitOperationDelete(name) for name in left_behind(target, bundle)]
    for addition in additions:  # one by one: the library's threads would not let Ctrl-C end the sending
        if addition.upload_info.size > _LARGE or addition.path_in_repo.endswith(_STORED):
            api.preupload_lfs_files(
                target.repo_id, [addition], revision=target.branch, create_pr=create_pr, free_memory=False
            )
    return api.create_commit(
        target.repo_id,
        [*additions, *removals],
        commit_message=message,
        revision=target.branch,
        parent_commit=target.head,
        create_pr=create_pr,
    )
