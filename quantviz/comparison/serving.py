"""What whoever starts the dashboard allows its visitors, handed to the server by environment variables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quantviz.comparison.sandbox_process import UPLOAD_BYTES

VARIABLE: Final = "QUANTVIZ_SERVE"


@dataclass(frozen=True, slots=True)
class Serving:
    """What the dashboard offers beside its own networks.

    Attributes:
        upload_bytes: largest ONNX file that is taken.
        cards: network cards, absolute paths.
        models: factories ``package.module:factory`` that visitors may choose.
    """

    upload_bytes: int = UPLOAD_BYTES
    cards: tuple[Path, ...] = ()
    models: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """Return the environment variables that ``from_environment`` reads."""
        cards = [str(path) for path in self.cards]
        told = {"upload_bytes": self.upload_bytes, "cards": cards, "models": list(self.models)}
        return {VARIABLE: json.dumps(told)}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Serving:
        """Return what a server was started with; the defaults where it was started in another way."""
        if VARIABLE not in environment:
            return cls()
        told = json.loads(environment[VARIABLE])
        return cls(int(told["upload_bytes"]), tuple(map(Path, told["cards"])), tuple(map(str, told["models"])))
