"""The identifiers of licences that the Hub takes, and which of them let a derived work carry another one."""

import re

from hftl.errors import ConfigError, did_you_mean


# Licences that let a derived work carry another licence, as long as their notices are kept.
_FREE = """
    apache-2.0 mit afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc0-1.0
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 etalab-2.0 isc ms-pl
    odc-by openmdw-1.0 postgresql ncsa unlicense zlib pddl
"""
PERMISSIVE = frozenset(_FREE.split())
NO_ANSWER = frozenset({"cc", "unknown", "other"})  # a family, or nothing: says too little to be carried over
# The identifiers that the Hub takes: https://huggingface.co/docs/hub/repositories-licenses
_TERMS = """
    openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m cc-by-sa-3.0
    cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 epl-1.0 epl-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0
    gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 h-research intel-research lppl-1.3c apple-ascl apple-amlr mpl-2.0 odbl openrail++
    osl-3.0 ofl-1.1 lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2
    llama3.3 llama4 grok2-community gemma
"""
LICENSES = PERMISSIVE | NO_ANSWER | frozenset(_TERMS.split())


def license_id(text: str) -> str | None:
    """Return the Hub's identifier for a licence in other case or spacing ("CC BY-SA 4.0 (Wikipedia)"), or None.

    A Creative Commons licence without its version counts as 4.0, the current one.
    """
    slug = re.sub(r"[\s_]+", "-", re.sub(r"\(.*?\)", "", text.lower()).strip())
    versions = (slug, f"{slug}-4.0") if slug.startswith("cc-by") else (slug,)
    return next((one for one in versions if one in LICENSES), None)


def check_license(given: str) -> str:
    """Return the identifier. Raises `ConfigError`, with the closest ones, when the Hub has no such identifier."""
    name = given.strip().lower()
    if name not in LICENSES:
        near = license_id(given)
        hint = f" Did you mean {near!r}?" if near else did_you_mean(name, LICENSES)
        raise ConfigError(
            f"--license takes an identifier of the Hub, such as apache-2.0, cc-by-4.0 or other, not {given!r}.{hint}"
        )
    return name
