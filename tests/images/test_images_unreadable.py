"""Folders and pictures that one may not read are named. Root may read all of them, so another user looks."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image

NOBODY = 65534

# Everything is imported before, as the other user may not be able to read the interpreter's own files.
AS_ANOTHER = f"""
import os, sys
from pathlib import Path
from quantviz import images
from quantviz.specs import QuantvizError
from quantviz.truth import pair
if os.geteuid() == 0:
    os.setegid({NOBODY})
    os.seteuid({NOBODY})
here = Path(sys.argv[1])
looks = {{
    "folder": lambda: images.folder(here / "pictures"),
    "left out": lambda: images.left_out(here / "pictures"),
    "whole": lambda: images.folder(here / "closed"),
    "truth": lambda: pair([here / "open.png"], here / "pictures"),
    "picture": lambda: images.load(here / "secret.png"),
}}
for name, look in looks.items():
    try:
        print(name, "|", look())
    except QuantvizError as error:
        print(name, "|", type(error).__name__, error)
"""


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        here = Path(name)
        here.chmod(0o755)
        (here / "pictures" / "inner").mkdir(parents=True)
        (here / "closed").mkdir()
        for file in ("open.png", "secret.png", "pictures/1.png", "pictures/inner/2.png", "closed/3.png"):
            Image.new("RGB", (20, 20)).save(here / file)
        shut = [here / "pictures" / "inner", here / "closed", here / "secret.png"]
        for path in shut:
            path.chmod(0)
        yield here
        for path in shut:
            path.chmod(0o700)


def test_what_may_not_be_read_is_named(place):
    told = subprocess.run([sys.executable, "-c", AS_ANOTHER, place], capture_output=True, text=True, check=True)
    lines = dict(line.split(" | ", 1) for line in told.stdout.splitlines())
    for name in ("folder", "left out", "truth"):
        assert lines[name].startswith("ImageError Folder ")
        assert f"{place / 'pictures' / 'inner'} cannot be read (Permission denied)" in lines[name]
        assert "would be missing; make it readable" in lines[name]
    assert f"{place / 'closed'} cannot be read (Permission denied)" in lines["whole"]
    assert lines["picture"].startswith(f"ImageError {place / 'secret.png'} cannot be read (Permission denied)")
    assert told.stderr == ""
