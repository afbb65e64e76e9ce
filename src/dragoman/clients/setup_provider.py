"""Adds a provider to our own `dragoman.toml` with the same care as to a client's file: comments stay."""

from __future__ import annotations

from typing import Any

from dragoman.catalog.presets import shipped_presets
from dragoman.clients.config_file import read_client_file, replace_client_file
from dragoman.clients.editing import has
from dragoman.clients.setup_record import changed_lines
from dragoman.clients.toml_edit import TomlText
from dragoman.config.paths import Home


def add_preset(
    home: Home, preset: str, *, name: str, key_env: str | None = None, make_default: bool = False
) -> tuple[str, ...]:
    """Add `[providers.NAME]` from a preset; the first provider becomes the default one.

    Args:
        home: whose configuration file is edited; made when missing.
        preset: a shipped preset.
        name: what to call the provider.
        key_env: the variable with its key; the preset's when None.
        make_default: send unknown models there even when there is a default already.

    Returns:
        the lines that changed.

    Raises:
        EditRefused: the file cannot be edited safely.
        KeyError: there is no such preset.
    """
    file = read_client_file(home.config_file)
    document = TomlText(file.text, str(home.config_file))
    table: dict[str, Any] = {"preset": preset}
    variable = key_env or shipped_presets()[preset].key_env
    if variable is not None:
        table["key_env"] = variable
    first = not document.tree.get("providers")
    if has(document.tree, ("providers", name)):
        for key, value in table.items():
            document = document.with_value(("providers", name, key), value)
    else:
        document = document.with_table(("providers", name), table)
    default = ("gateway", "default_provider")
    if make_default or (first and "default_provider" not in document.tree.get("gateway", {})):
        document = document.with_value(default, name)
    content = file.encoded(document.text)
    if content != file.content:
        replace_client_file(file, content)
    return changed_lines(file.text, document.text)
