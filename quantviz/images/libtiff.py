"""libtiff, which Pillow reads packed TIFF files by, kept from writing to standard error."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import PIL
from PIL import features


@lru_cache(maxsize=1)
def is_hushed() -> bool:
    """Take away libtiff's handlers of errors and warnings, which print; Pillow raises an error of its own besides.

    They are the process's, so that no thread and no file descriptor has to be switched for a while.

    Returns:
        Whether that could be done; else a packed TIFF file is decoded by a process of its own.
    """
    if not features.check("libtiff"):
        return True  # such files are refused
    for folder in (Path(PIL.__file__).parent.parent / "pillow.libs", Path(PIL.__file__).parent / ".dylibs"):
        for path in sorted(folder.glob("libtiff*")):
            try:
                library = ctypes.CDLL(str(path))
                for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                    getattr(library, name).restype = ctypes.c_void_p
                    getattr(library, name)(None)
            except (OSError, AttributeError):
                continue
            return True
    return False
