"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from quantviz.specs import QuantvizError, UsageError


def check_writable(path: Path | None) -> None:
    """Refuse an output file that cannot be written before anything is computed; None is accepted.

    Raises:
        UsageError: it is a folder, or in a folder that does not exist or is not writable.
    """
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"Output {str(path)!r} is a folder; name a file.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"Folder {str(path.absolute().parent)!r} does not exist; make it first.")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UsageError(f"Folder {str(path.absolute().parent)!r} is not writable; choose another.")


def check_folder(path: Path | None) -> None:
    """Refuse an output folder that cannot be made or written before anything is computed; None is accepted.

    Raises:
        UsageError: it is a file, or cannot be made or written.
    """
    if path is None:
        return
    if path.exists() and not path.is_dir():
        raise UsageError(f"Output {str(path)!r} is a file; name a folder.")
    if not path.is_dir():
        check_writable(path)
    elif not os.access(path, os.W_OK):
        raise UsageError(f"Folder {str(path)!r} is not writable; choose another.")


def make_folder(path: Path) -> None:
    """Make an output folder where there is none.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"Folder {str(path)!r} cannot be made ({error.strerror}); choose another.") from None


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; through a link into its target, and into a device or pipe as it is.

    Raises:
        QuantvizError: the disk refuses.
    """
    path = path.resolve()
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        with tempfile.NamedTemporaryFile(dir=path.absolute().parent, delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.chmod(file.name, 0o666 & ~_umask())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise QuantvizError(f"{str(path)!r} could not be written: {error.strerror}.") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
