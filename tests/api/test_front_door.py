"""What ``import quantviz`` offers: its names, their words, their options and their examples."""

import doctest
import importlib
import inspect
import typing
from dataclasses import MISSING, fields

import pytest

import quantviz as qv
from quantviz import networks
from quantviz.api import functions
from quantviz.api.modules import ModuleOptions
from quantviz.api.onnx import FileOptions
from quantviz.api.table import PictureOptions
from quantviz.cli import cli
from quantviz.specs import errors

OVERLOADS = {PictureOptions: 0, FileOptions: 1, ModuleOptions: 2}
# Parameters of the command -> of the function, where their names differ.
NAMES = {"method": "cam", "target": "class_", "faithful": "faithfulness", "cache_dir": "cache"}
NAMES |= {"quantized_models": "quantized_model", "input_words": "input"}


def test_importing_takes_no_library_and_only_what_is_asked_for_is_imported(imported):
    heavy = ("torch", "numpy", "pandas", "plotly", "PIL", "streamlit", "quantviz.specs", "quantviz.api")
    assert imported("import quantviz as qv; dir(qv); qv.__version__", *heavy) == []
    assert imported("import quantviz as qv; qv.UsageError, qv.Preprocessing", "torch", "pandas", "quantviz.api") == []
    assert imported("import quantviz as qv; qv.compare, qv.open_study", "torch", "plotly", "streamlit") == []


def test_every_public_name_is_there_and_documented_and_nothing_else_shows():
    assert qv.__all__ == sorted(qv.__all__)
    assert [name for name in dir(qv) if not name.startswith("__")] == [n for n in qv.__all__ if n != "__version__"]
    for name in qv.__all__:
        value = getattr(qv, name)
        assert name == "__version__" or value.__doc__.strip(), name
        if inspect.isfunction(value):
            assert "Example:" in value.__doc__, name
        for member, inner in vars(value).items() if inspect.isclass(value) else ():
            assert member.startswith("_") or not callable(inner) or inner.__doc__, f"{name}.{member}"
    with pytest.raises(AttributeError, match="module 'quantviz' has no attribute 'comparee'"):
        qv.comparee  # noqa: B018


def test_all_errors_are_offered_and_are_one_tree():
    tree = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert tree <= set(qv.__all__)
    assert all(issubclass(getattr(qv, name), qv.QuantvizError) for name in tree)


@pytest.mark.parametrize("kind", OVERLOADS)
def test_options_are_typed_and_documented_as_they_are(kind):
    typed = inspect.signature(typing.get_overloads(functions.compare)[OVERLOADS[kind]]).parameters
    named = {name: entry.default for name, entry in typed.items() if entry.kind is entry.KEYWORD_ONLY}
    assert list(named) == [entry.name for entry in fields(kind)]
    for entry in fields(kind):
        default = entry.default if entry.default is not MISSING else inspect.Parameter.empty
        assert named[entry.name] in (default, ...), entry.name
        assert f"``{entry.name}``" in qv.compare.__doc__, entry.name


def test_options_are_those_of_the_command_with_its_defaults():
    parameters = {NAMES.get(entry.name, entry.name): entry for entry in cli.commands["compare"].params}
    written = {"image", "json_path", "png", "maps"}  # the command's own: the picture, and where to write
    ours = {entry.name: entry.default for kind in (FileOptions, PictureOptions) for entry in fields(kind)}
    assert parameters.keys() - written == ours.keys() - {"progress"}
    for name in parameters.keys() - written - {"float_model"}:
        default = parameters[name].to_info_dict()["default"]
        assert ours[name] == default or str(ours[name]) == default or not (ours[name] or default), name


def test_every_example_runs(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("QUANTVIZ_CACHE", str(tmp_path_factory.mktemp("cache")))
    attempted = 0
    for name in ("quantviz", "quantviz.api.functions", "quantviz.api.results", "quantviz.api.study"):
        outcome = doctest.testmod(importlib.import_module(name))
        assert not outcome.failed
        attempted += outcome.attempted
    assert attempted > 15


def test_models_are_listed_by_pattern():
    assert qv.list_models() == list(networks.MODELS)
    assert qv.list_models("*net50") == ["resnet50"]
    assert qv.list_models("nothing*") == []
