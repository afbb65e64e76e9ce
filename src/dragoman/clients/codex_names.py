"""Model names that are Codex's own, and what happens when another vendor's model answers to one.

Learned from codex-cli 0.163 and 0.169: for the models of its built-in list Codex chooses tools by the name.
All but gpt-5.5 get code mode (tools called from JavaScript), which no other vendor's model was trained for. A
catalogue of ours comes first, but a Codex that was not given one goes by the name alone.
"""

from __future__ import annotations

import re

from dragoman.gateway.routes import RouteTable

_CODEX_OWN = re.compile(r"gpt-\d|codex-auto-review$")


def borrowed_name(routes: RouteTable, name: str) -> str | None:
    """Why a model should not go by this name, in a sentence; None when there is nothing to say.

    Raises:
        UnknownModel: the name leads nowhere.
    """
    route = routes.resolve(name, "responses")
    own = route.upstream_model.rpartition("/")[2]
    if not _CODEX_OWN.match(name) or _CODEX_OWN.match(own):
        return None
    return (
        f"{name} is one of Codex's own names, and Codex chooses tools by the name: wherever it does not read "
        f"the list of models from here, {route.upstream_model} is offered tools it does not know"
    )


def borrowed_names(routes: RouteTable) -> dict[str, str]:
    """Every name clients are shown that should be another one, with the reason."""
    found = {model.name: borrowed_name(routes, model.name) for model in routes.models}
    return {name: reason for name, reason in found.items() if reason is not None}
