"""What whoever starts the dashboard allows its visitors, handed to the server by environment variables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from quantviz.comparison.sandbox_process import UPLOAD_BYTES

VARIABLE: Final = "QUANTVIZ_SERVE"
SESSION_BYTES: Final = 512 << 20
"""What one session of a public server may have uploaded at a time, by default."""
MOST_SECONDS: Final = 120
"""How long one computation of a public server may take, by default."""

_FOLDERS: Final = ("cards", "studies", "datasets")


@dataclass(frozen=True, slots=True)
class Serving:
    """What the dashboard offers beside its own networks.

    Attributes:
        upload_bytes: largest ONNX file that is taken.
        cards: network cards, absolute paths.
        models: factories ``package.module:factory`` that visitors may choose.
        public: visitors are strangers: no text of theirs is a path of this machine.
        studies: folders of studies that visitors may open by name, absolute paths.
        datasets: folders of pictures that visitors may choose by name, absolute paths.
        session_bytes: what one session may have uploaded at a time; 0 for no limit.
        seconds: how long one computation may take; 0 for no limit.
        metrics: answer ``/health`` and ``/metrics``.
        json_log: write the log as a JSON object a line.
        reachable: other machines reach the server.
    """

    upload_bytes: int = UPLOAD_BYTES
    cards: tuple[Path, ...] = ()
    models: tuple[str, ...] = ()
    public: bool = False
    studies: tuple[Path, ...] = ()
    datasets: tuple[Path, ...] = ()
    session_bytes: int = 0
    seconds: int = 0
    metrics: bool = False
    json_log: bool = False
    reachable: bool = False

    def environment(self) -> dict[str, str]:
        """Return the environment variables that ``from_environment`` reads."""
        told: dict[str, Any] = asdict(self)
        told |= {name: [str(path) for path in told[name]] for name in _FOLDERS}
        return {VARIABLE: json.dumps(told)}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Serving:
        """Return what a server was started with; the defaults where it was started in another way."""
        if VARIABLE not in environment:
            return cls()
        told = json.loads(environment[VARIABLE])
        told |= {name: tuple(map(Path, told.get(name, ()))) for name in _FOLDERS}
        return cls(**told | {"models": tuple(map(str, told["models"]))})
