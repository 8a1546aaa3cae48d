"""Networks of our table come without the rest of their libraries, which are whole for whoever asks them."""

import sys
import threading
from importlib import import_module

import pytest
import timm
import torchvision

from quantviz.networks import deferred
from quantviz.networks.attention import separate
from quantviz.networks.from_table import FILES, construct
from quantviz.networks.skeleton import blank, without_weights
from quantviz.networks.structure import structure_of
from quantviz.networks.table import MODELS

INIT = """
from parcel.constants import *
from parcel.part import part, Part
from parcel.other import *
__all__ = ["part", "Part", "VALUE", "whole"]
whole = True
"""


@pytest.fixture
def parcel(tmp_path, monkeypatch):
    """A package, deferred: one of its modules has the name of a function, and it has constants in a file."""
    folder = tmp_path / "parcel"
    folder.mkdir()
    files = {
        "__init__": INIT,
        "part": "from parcel import SIZE\ndef part():\n    return SIZE\nclass Part:\n    pass\n",
        "other": "VALUE = 3\n",
        "constants": "SIZE = 7\n",
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(deferred, "_deferring", True)
    monkeypatch.setattr(deferred, "DEFERRED", {"parcel": "parcel.constants"})
    yield "parcel"
    for name in [name for name in sys.modules if name.partition(".")[0] == "parcel"]:
        del sys.modules[name]


def test_a_module_comes_without_its_package(parcel):
    with deferred.one_by_one():
        from parcel.part import Part, part
    assert part() == 7
    assert "parcel.other" not in sys.modules
    import parcel as package

    assert not hasattr(package, "__warningregistry__")  # what looks through all modules asks such things
    assert package.SIZE == 7
    assert "parcel.other" not in sys.modules
    assert package.whole
    assert "parcel.other" in sys.modules
    # The function, not the module of the same name that was there first; and the same class.
    assert package.part is part
    assert package.Part is Part
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_what_others_import_finds_the_whole_package(parcel):
    with deferred.one_by_one():
        import parcel.constants as constants
    assert constants.SIZE == 7

    assert "whole" in vars(sys.modules["parcel"])


def test_a_module_is_run_once_though_its_package_imports_it_on_the_way(parcel, tmp_path):
    part = tmp_path / "parcel" / "part.py"
    ran = "import sys\nsys.modules['parcel.constants'].__dict__.setdefault('RAN', []).append(__name__)\n"
    part.write_text(f"from parcel.constants import SIZE\n{ran}{part.read_text()}")
    with deferred.one_by_one():
        constants = import_module("parcel.constants")
    assert "parcel.part" not in sys.modules
    from parcel.part import Part

    assert constants.RAN == ["parcel.part"]
    module = sys.modules["parcel.part"]
    assert Part is module.Part is sys.modules["parcel"].Part
    assert module.__spec__.origin == module.__file__ == str(part)


def test_another_thread_than_the_main_one_imports_the_whole_package(parcel):
    found = []

    def work():
        with deferred.one_by_one():
            from parcel.part import part
        found.append((part(), "parcel.other" in sys.modules, sys.modules["parcel"].whole))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(7, True, True)]


def test_only_a_command_has_packages_without_the_rest(parcel, monkeypatch):
    monkeypatch.setattr(deferred, "_deferring", False)
    with deferred.one_by_one():
        from parcel.part import part
    assert part() == 7
    assert "parcel.other" in sys.modules


def test_a_package_whose_init_fails_says_so_every_time(parcel, tmp_path):
    (tmp_path / "parcel" / "__init__.py").write_text("raise ImportError('broken here')\n")
    with deferred.one_by_one():
        from parcel.part import part
    assert part() == 7
    for _ in range(2):
        with pytest.raises(ImportError, match="broken here"):
            sys.modules["parcel"].whole  # noqa: B018


@pytest.mark.parametrize("name", MODELS)
def test_a_network_of_the_table_is_its_library_s(name):
    spec = MODELS[name]
    makers = {
        "timm": lambda: timm.create_model(spec.constructor, pretrained=False, num_classes=7),
        "torchvision": lambda: torchvision.models.get_model(spec.constructor, weights=None, num_classes=7),
    }
    assert (spec.library, spec.constructor) in FILES
    with without_weights():
        ours, theirs = construct(spec, 7), makers[spec.library]()
    assert type(ours) is type(theirs)
    assert str(ours) == str(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_network_of_the_table_has_nothing_to_take_apart_or_leave_alone(name):
    with without_weights():
        module = construct(MODELS[name], 1000).eval()
        before = str(module)
        separate(module)
        structure = structure_of(module, blank(module, (224, 224), 2))
    assert str(module) == before
    assert structure.unused == ()
    assert not any(grid.layout for grid in structure.layers)
