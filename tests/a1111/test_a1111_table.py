"""Settings, Extras, API and X/Y/Z axes agree with RestoreOptions.table()."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from gpen_core.options import PRESET, PRESET_CONTROL, RestoreOptions
from gpen_core.presets import PRESETS

# What controls are made from: the settings, and the preset below them.
TABLE = {option.name: option for option in (PRESET_CONTROL, *RestoreOptions.table())}


def ours(host):
    """Our settings by key."""
    return {key: info for key, info in host.opts.data_labels.items() if key.startswith("gpen_")}


def limits(arguments):
    """(minimum, maximum, step, choices) of a component's arguments."""
    given = arguments() if callable(arguments) else arguments
    return tuple(given.get(name) for name in ("minimum", "maximum", "step")), tuple(given.get("choices", ()))


def expected(option, choices):
    bounds = (option.minimum, option.maximum, option.step) if option.kind in ("int", "float") else (None, None, None)
    return bounds, tuple(choices) if option.name == "model" else option.choices


def test_settings_agree_with_the_table(host):
    fields, labels = host.ours("fields"), ours(host)
    hidden = {"output_size", "factor", "background", "aligned", "device", "person", "person_likeness", "steady"}
    assert {option.name for option in fields.settings()} == set(TABLE) - hidden
    assert set(labels) == {f"gpen_{name}" for name in TABLE if name not in hidden}
    for key, info in labels.items():
        option = TABLE[key.removeprefix("gpen_")]
        assert (info.default, info.label) == (option.default, option.label)
        assert limits(info.component_args) == expected(option, host.ours("models").choices())
        assert info.infotext == f"GPEN {option.name.replace('_', ' ')}" and info.section == ("gpen", "GPEN face restoration")
        assert host.opts.data[key] == option.default and type(info.default) is type(option.default)  # the paste button casts texts to it
    assert host.ours("settings").current() == RestoreOptions()


@pytest.mark.parametrize("name", ["GpenExtras", "GpenTasks"])
def test_checkboxes_have_rows_of_their_own(host, name):
    """Beside a slider with its help text, a checkbox floats in the middle of nowhere."""
    import gradio as gr

    rows = {}
    for control in list(host.extras(name).ui().values())[1:]:
        assert "gpen-controls" in control.parent.arguments["elem_classes"], "style.css"
        rows.setdefault(id(control.parent), []).append(isinstance(control, gr.Checkbox))
    assert len(rows) > 3 and all(len(row) <= 2 and len(set(row)) == 1 for row in rows.values())


def test_extras_agree_with_the_table(host):
    controls = host.extras().ui()
    assert not controls.pop("enable").value  # off until it is switched on
    assert set(controls) == {option.name for option in host.ours("fields").extras()} and set(controls) < set(TABLE)
    for name, control in controls.items():
        option = TABLE[name]
        if name == "person":  # a picture, never a path
            assert control.value is None and control.label == f"{option.label}. {option.help}" and control.arguments == {"type": "pil"}
            continue
        assert control.value == option.default and control.label.startswith(option.label)
        # A checkbox has no info: gradio would show it above the label.
        assert (control.label, control.arguments.get("info")) == (f"{option.label}. {option.help}", None) if option.kind == "bool" else True
        assert option.kind == "bool" or control.arguments["info"] == option.help
        assert limits(control.arguments) == expected(option, host.ours("models").choices())
        assert "elem_id" not in control.arguments
    # Nothing is out of reach: what is not in Settings is in Extras, but the device, which is the host's, and what only videos need.
    assert set(TABLE) - {option.name for option in host.ours("fields").settings()} - set(controls) == {"device", "steady"}


def test_axes_agree_with_the_table(host):
    host.module("script_callbacks").run("before_ui")  # once more: nothing is added twice
    axes = host.plot.axis_options[1:]
    assert [axis.label for axis in axes] == [f"[GPEN] {TABLE[name].label}" for name in ("model", "strength", "fidelity")]
    assert [axis.type for axis in axes] == [str, float, float]


def test_api_agrees_with_the_table(host):
    pytest.importorskip("fastapi", reason="the WebUI brings fastapi; test_real_webui.py asks the real one")
    schema = host.ours("api").RestoreRequest.schema()["properties"]
    table = {name: option for name, option in TABLE.items() if name != "steady"}  # there are no videos
    assert set(schema) == {"image", *table}
    assert tuple(schema["preset"]["enum"]) == ("none", *PRESETS)
    types = {"int": "integer", "float": "number", "bool": "boolean", "text": "string", "choice": "string"}
    for name, option in {**table, "preset": PRESET}.items():
        field = schema[name]
        assert (field["default"], field["title"]) == (option.default, option.label)
        assert field["description"] == option.help if name != "person" else "never a path" in field["description"]
        assert field["type"] == types[option.kind]
        assert (field.get("minimum"), field.get("maximum")) == (option.minimum, option.maximum)
        assert tuple(field.get("enum", ())) == option.choices


def test_the_plot_sets_what_it_says_and_refuses_what_cannot_be(host):
    class Processing:
        restore_faces = False

        def __init__(self):
            self.override_settings = {}

    model, strength, _ = host.plot.axis_options[1:]
    p = Processing()
    strength.apply(p, 0.3, [0.3])
    model.apply(p, "GPEN-BFR-256-lite", [])
    assert p.restore_faces
    assert p.override_settings == {"face_restoration_model": "GPEN", "gpen_strength": 0.3, "gpen_model": "GPEN-BFR-256-lite"}
    strength.confirm(p, [0, 0.5, 1])
    model.confirm(p, model.choices())
    with pytest.raises(RuntimeError, match="between 0 and 1"):
        strength.confirm(p, [0.5, 2])
    with pytest.raises(RuntimeError, match="no GPEN model named 'GFPGAN'"):
        model.confirm(p, ["GFPGAN"])


def test_parameters_are_written_and_read_back(host, portrait):
    class Processing:
        restore_faces = True

        def __init__(self):
            self.extra_generation_params = {}

    script, p = host.infotext(), Processing()
    assert script.ui(False) == [] and script.show(False) is host.module("scripts").AlwaysVisible
    script.postprocess_image(p, None)
    assert p.extra_generation_params == {}  # another restorer is chosen
    host.opts.face_restoration_model = "GPEN"
    host.opts.gpen_strength, host.opts.gpen_max_faces = 0.4, 2
    script.process(p)
    assert p.extra_generation_params == {"GPEN model": "auto", "GPEN strength": 0.4, "GPEN max faces": 2}
    host.restore_faces(portrait)
    script.postprocess_image(p, None)
    assert p.extra_generation_params == {"GPEN model": "GPEN-BFR-256-lite", "GPEN strength": 0.4, "GPEN max faces": 2}

    pasted = {"Face restoration": "GPEN", **{key: str(value) for key, value in p.extra_generation_params.items()}}
    host.module("script_callbacks").run("infotext_pasted", "", pasted)
    read = {key: pasted[info.infotext] for key, info in ours(host).items()}
    cast = {key: False if text == "False" else type(host.opts.data_labels[key].default)(text) for key, text in read.items()}
    values = {key.removeprefix("gpen_"): value for key, value in cast.items()}
    assert RestoreOptions.from_mapping(values) == RestoreOptions(model="GPEN-BFR-256-lite", strength=0.4, max_faces=2)

    assert pasted[host.opts.data_labels["face_restoration_model"].infotext] == "GPEN"

    failed = Processing()
    host.opts.gpen_faces = "first"
    host.restore_faces(portrait)
    script.process(failed)
    script.postprocess_image(failed, None)
    assert failed.extra_generation_params == {}
    host.opts.gpen_faces, host.opts.gpen_model = "", "GPEN-BFR-512"  # not on disk
    host.restore_faces(portrait)
    script.process(failed)
    script.postprocess_image(failed, None)
    assert failed.extra_generation_params == {}

    other = {"Face restoration": "CodeFormer"}
    host.module("script_callbacks").run("infotext_pasted", "", other)
    assert other == {"Face restoration": "CodeFormer"}


def test_a_preset_changes_what_is_at_its_default(host):
    current = host.ours("settings").current
    host.opts.gpen_preset, host.opts.gpen_max_faces = "group", 3
    assert current() == RestoreOptions.preset("group", max_faces=3)
    host.opts.gpen_threshold = 0.6
    assert current() == RestoreOptions.preset("group", max_faces=3, threshold=0.6)
    assert current({"preset": "portrait", "max_faces": 0}) == RestoreOptions.preset("portrait", threshold=0.6), "Extras has its own"
    assert current({"preset": "none", "max_faces": 0}) == RestoreOptions(threshold=0.6)
    assert current({"preset": None, "max_faces": 0}) == RestoreOptions.preset("group", threshold=0.6)


def test_parameters_have_a_presets_settings_and_read_back_whatever_the_preset_is_then(host):
    fields = host.ours("fields")
    host.opts.gpen_preset, host.opts.gpen_threshold = "old-photo", 0.6
    made = host.ours("settings").current()
    written = fields.infotext(made, "GPEN-BFR-256-lite")
    assert "GPEN preset" not in written and written["GPEN threshold"] == 0.6 and written["GPEN rotations"] is True
    pasted = {"Face restoration": "GPEN", **{key: str(value) for key, value in written.items()}}
    host.module("script_callbacks").run("infotext_pasted", "", pasted)
    assert pasted["GPEN preset"] == "none"
    for key, info in ours(host).items():
        text = pasted[info.infotext]
        setattr(host.opts, key, text == "True" if isinstance(info.default, bool) else type(info.default)(text))
    assert host.ours("settings").current() == RestoreOptions.preset("old-photo", model="GPEN-BFR-256-lite", threshold=0.6)


def test_hosts_before_1_6_have_one_list_of_names(host, monkeypatch):
    class Older(host.module("shared").OptionInfo):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            del self.infotext

    mapping = []
    monkeypatch.setattr(host.module("shared"), "OptionInfo", Older)
    monkeypatch.setitem(sys.modules, "modules.generation_parameters_copypaste", SimpleNamespace(infotext_to_setting_name_mapping=mapping))
    host.reload_ui()
    host.reload_ui()
    assert ("GPEN strength", "gpen_strength") in mapping and ("Face restoration model", "face_restoration_model") in mapping
    assert len(mapping) == len(set(mapping)) == 1 + len(ours(host))
