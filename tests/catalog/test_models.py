from __future__ import annotations

from dragoman.catalog.models import shipped_models
from dragoman.catalog.presets import shipped_presets


def test_the_promised_models_are_shipped_with_names_and_windows() -> None:
    models = shipped_models().models
    wanted = ["gpt-5.5", "glm-5.2", "glm-5.1", "glm-5", "glm-4.7", "deepseek-v4-pro", "deepseek-v4-flash"]
    for name in wanted:
        model = models[name]
        assert model.display_name != name
        assert model.context_window
        assert model.max_output_tokens


def test_every_model_is_served_by_a_preset_and_its_figures_fit_together() -> None:
    groups = {preset.catalogue or name for name, preset in shipped_presets().items()} | {"rehearsal"}
    for model in shipped_models().models.values():
        assert model.catalogue in groups
        assert model.source
        assert model.default_effort is None or model.default_effort in model.efforts
        assert bool(model.efforts) == model.reasoning
        assert (model.default_output_tokens or 0) <= (model.max_output_tokens or 0)
        assert "text" in model.input_modalities


def test_every_preset_with_a_default_model_describes_it() -> None:
    models = shipped_models().models
    for name, preset in shipped_presets().items():
        if preset.default_model is not None:
            assert models[preset.default_model].catalogue == (preset.catalogue or name)


def test_shipped_aliases_lead_to_shipped_models() -> None:
    shipped = shipped_models()
    assert shipped.aliases["claude-opus-4-6"] == "glm-5.2"
    assert set(shipped.aliases.values()) <= set(shipped.models)
