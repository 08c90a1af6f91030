"""TransformerLens hook names, by which SAELens says where a dictionary belongs, as sites of ours."""

from __future__ import annotations

import re

from tools.errors import DictionaryError
from tools.types import Site

#: The part of a hook name after ``blocks.LAYER.`` and the kind of site that holds the same tensor.
SITE_KIND_OF_HOOK = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    # The residual stream as the MLP block receives it, before its norm: a copy of the middle of the residual stream.
    "hook_mlp_in": "resid_mid",
    "attn.hook_z": "head_z",
    "mlp.hook_post": "mlp_act",
}


def site_of_hook(hook: str) -> Site:
    """The site that holds the tensor of a TransformerLens hook, e.g. ``blocks.2.hook_resid_post`` → ``resid_post.2``.

    Raises:
        DictionaryError: No site corresponds, e.g. for the output of a normalisation (``ln2.hook_normalized``).
    """
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook)
    kind = SITE_KIND_OF_HOOK.get(match[2]) if match else None
    if match is None or kind is None:
        raise DictionaryError(
            f"The dictionary belongs to the hook '{hook}', which is no site of a subject here.\n"
            f"Supported hooks: blocks.LAYER. followed by one of {', '.join(SITE_KIND_OF_HOOK)}."
        )
    return Site(int(match[1]), kind)
