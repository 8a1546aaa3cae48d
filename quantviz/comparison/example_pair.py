"""A pair of ONNX files to try quantviz with: the network that comes with it, exported and quantized on this machine.

Run as a module, it writes the files: export and quantization write to the terminal and set what is the process's own,
so that they have one of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from quantviz import images, networks
from quantviz.specs import Progress, QuantvizError, no_progress

NETWORK: Final = "efficientnet_lite0"
"""Its weights come with an installed package."""

_NAMES: Final = (f"{NETWORK}.float.onnx", f"{NETWORK}.int8.onnx")
_POLL: Final = 0.2
_MOST_SECONDS: Final = 900


def example_pair(folder: Path, progress: Progress = no_progress) -> tuple[Path, Path]:
    """Return the paths of a float and an int8 QDQ ONNX file of one network, which are made where they are not there.

    Args:
        folder: where the two lie, or will; made with its parents.
        progress: told several times a second while they are made, which takes some ten seconds; whatever it raises
            ends that.

    Raises:
        QuantvizError: they could not be made.
    """
    first, second = (folder / name for name in _NAMES)
    if not (first.exists() and second.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as held:
            _make(Path(held), progress)
            for path in (first, second):
                os.replace(Path(held) / path.name, path)
    return first, second


def _make(folder: Path, progress: Progress) -> None:
    """Write the files in a process of its own."""
    log = folder / "log"
    with log.open("wb") as words:
        maker = subprocess.Popen([sys.executable, "-m", __name__, str(folder)], stdout=words, stderr=words)
        try:
            for _ in range(int(_MOST_SECONDS / _POLL)):
                progress(f"Exporting {NETWORK}, and quantizing it by ONNX Runtime")
                try:
                    if maker.wait(_POLL):
                        raise QuantvizError(
                            f"The example pair could not be made ({_last(log)}); upload two files of your own instead."
                        )
                    return
                except subprocess.TimeoutExpired:
                    continue
            raise QuantvizError(
                f"The example pair was not made within {_MOST_SECONDS} s; upload two files of your own instead."
            )
        finally:
            maker.kill()
            maker.wait()


def _last(log: Path) -> str:
    """Return the last line of what the process said."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def main(folder: Path) -> None:
    """Write the two files; ranges of activations are those of the bundled photographs."""
    import numpy as np

    from quantviz.networks.build import build
    from quantviz.networks.onnx_files.making import make_pair

    spec = networks.spec(NETWORK)
    form = spec.weights[0].preprocessing
    module, _ = build(spec, networks.resolve(spec))
    pictures = [images.normalize(images.crop(images.bundled(name).rgb, form), form) for name in images.BUNDLED]
    make_pair(module, np.concatenate(pictures), folder, NETWORK)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
