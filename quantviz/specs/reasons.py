"""What another library's exception says, as a part of a sentence of ours."""

from __future__ import annotations

import re

_MOST = 240
_RUNTIME = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_LOADING = re.compile(r"^Load model from .*? failed: ?")
_PLACE = re.compile(r"/\S+?\.(?:cc|cpp|h|hpp):\d+ ")


def reason_of(error: BaseException) -> str:
    """Return why something failed, on one line, without where in a library's source that was noticed.

    ONNX Runtime puts the source file and a function's whole signature before the reason. What is too long is cut
    within, so that beginning and end are told.

    Args:
        error: of another library.
    """
    text = _RUNTIME.sub("", " ".join(str(error).split()))
    text = _LOADING.sub("", text)
    if place := _PLACE.match(text):
        text = _behind_signature(text[place.end() :])
    if len(text) > _MOST:
        text = f"{text[: _MOST // 2].rstrip()} ... {text[-_MOST // 2 :].lstrip()}"
    return text.rstrip(" .") or type(error).__name__


def system_words(error: OSError) -> str:
    """Return a sentence for what the system refuses: a full disk, a folder without permission, a name too long.

    Args:
        error: of the system.
    """
    file = f" of {str(error.filename)!r}" if error.filename is not None else ""
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return f"The system refused the use{file} ({reason}); see to its path, permissions and space, and try again."


def too_new(error: BaseException) -> bool:
    """Return whether ONNX Runtime refuses a file because its format or operators are newer than the runtime."""
    return bool(re.search(r"max supported IR version|official(?:ly)? (?:released|support)", str(error)))


def _behind_signature(text: str) -> str:
    """Return what follows a C++ function's parameters, or the whole text where they do not close."""
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign in "(<") - (sign in ")>")
        if sign == ")" and depth == 0:
            return re.sub(r"^ ?(?:const|noexcept|\[with [^\]]*\])* ?", "", text[at + 1 :]) or text
    return text
