"""The process that decodes a picture which takes much memory or time, or which only libtiff reads.

``python -m quantviz.images.decoder`` does what ``quantviz.images.apart`` asks for, as ``quantviz.confined`` says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quantviz.confined import Tell, serve
from quantviz.images.apart import FILE, packed
from quantviz.images.decode import map_here, picture_here


def decoded(job: dict[str, Any], _progress: Tell) -> bytes:
    """Return the packed picture or map of a job."""
    data, name = Path(FILE).read_bytes(), str(job["name"])
    if job["kind"] == "map":
        return packed(map_here(data, name, indexed=bool(job["indexed"]), apart=True), [], 1)
    return packed(*picture_here(data, name, apart=True))


if __name__ == "__main__":
    serve(decoded)
