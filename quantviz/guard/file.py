"""A check file: the TOML file that says what is checked, and the limits. What is wrong is named by its line."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from quantviz.comparison.cards import card_of
from quantviz.guard.specs import CHANGES, CONFIDENCE, LIMITS, WORST_PART, Against, Limit, LimitKind
from quantviz.networks.classes import names_of_file
from quantviz.networks.toml_lines import content_of, line_of, text_of
from quantviz.specs import CALIBRATED, CAM_METHODS, GIVEN, CamSpec, UsageError, parse_bits, spec_of
from quantviz.study.planning import SweepRequest

DEFAULT: Final = "check.toml"
KEEP: Final = "quantviz-check"
"""Folder beside the check file in which the studies that it needs are made."""

_STUDY = ("study", "models")
_RUN = (
    *("photos", "model", "card", "weights", "bits", "scheme", "protocols", "cam", "layer", "calibration"),
    *("labels", "classes", "pictures", "seed", "keep"),
)
_BOTH = ("variants", "confidence", "baseline", "worst", "limits", "change")
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_MOST_WORST = 50

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CheckFile:
    """A check file, read.

    Attributes:
        path: of the file, absolute.
        limits: in its order.
        study: a finished study's folder; None where the check makes its own.
        request: what the check's own study is made from; None beside ``study``.
        keep: folder of the check's own studies.
        models: names of the networks of the study that are judged; all of them if empty.
        variants: labels of the variants that are judged; all of them if empty.
        confidence: of the check as a whole.
        baseline: file of the numbers that a change is judged against, or None.
        worst: how many of the pictures that drift most are shown.
        lines: key at the top -> its line.
    """

    path: Path
    limits: tuple[Limit, ...]
    study: Path | None
    request: SweepRequest | None
    keep: Path
    models: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    confidence: float = CONFIDENCE
    baseline: Path | None = None
    worst: int = 3

    def of(self, name: str, against: Against = "float") -> Limit | None:
        """Return the limit of this name, or None where the file has none."""
        return next((one for one in self.limits if (one.name, one.against) == (name, against)), None)

    def where(self, limit: Limit) -> str:
        """Return where a limit stands, for messages."""
        return f"{self.path.name}, line {limit.line}" if limit.line else self.path.name


def read_check(path: Path) -> CheckFile:
    """Read a check file.

    Args:
        path: of a .toml file.

    Raises:
        UsageError: it cannot be read, or a key or a value is wrong; the message has the line, and what is allowed.
    """
    return parse_check(text_of(path, "Check file"), path)


def parse_check(text: str, path: Path) -> CheckFile:
    """Read the text of a check file.

    Args:
        text: of the file.
        path: where it lies or is to lie; its paths start in that folder.

    Raises:
        UsageError: as ``read_check``.
    """
    content = content_of(text, path.name, "Check file")
    return _Reader(path.absolute(), text, content).check()


class _Reader:
    """Checks the content of a check file and names what is wrong by its line."""

    def __init__(self, path: Path, text: str, content: Mapping[str, Any]) -> None:
        self._path, self._text, self._content = path, text, content

    def check(self) -> CheckFile:
        content = self._content
        self._check_keys(content, (*_STUDY, *_RUN, *_BOTH), ())
        if ("study" in content) == ("photos" in content):
            what = "names a study and photos" if "study" in content else "names nothing to check"
            self._refuse(("photos",) if "photos" in content else (), f"{what}; give study, or photos and a model")
        beside = next((key for key in (_RUN if "study" in content else _STUDY) if key in content), None)
        if beside:
            self._refuse((beside,), f"{beside} goes with {'photos' if 'study' in content else 'study'}; leave it out")
        limits = (*self._limits("limits", LIMITS, "float"), *self._limits("change", CHANGES, "baseline"))
        if not limits:
            self._refuse((), "has no limits; write [limits] and below it mean_drift = 0.02, say")
        return CheckFile(
            self._path,
            limits,
            study=self._folder("study") if "study" in content else None,
            request=self._request() if "photos" in content else None,
            keep=self._place("keep") if "keep" in content else self._path.parent / KEEP,
            models=self._words("models"),
            variants=self._words("variants"),
            confidence=self._confidence(),
            baseline=self._place("baseline") if "baseline" in content else None,
            worst=self._count("worst", 0, _MOST_WORST, 3),
        )

    def _limits(self, table: str, kinds: Mapping[str, LimitKind], against: Against) -> list[Limit]:
        given = self._content.get(table, {})
        if not isinstance(given, dict):
            self._refuse((table,), f"{table} is a table; write [{table}] and the limits below")
        self._check_keys(given, tuple(kinds), (table,))
        return [self._limit(table, kinds[name], value, against) for name, value in given.items()]

    def _limit(self, table: str, kind: LimitKind, value: Any, against: Against) -> Limit:
        place, part = (table, kind.name), WORST_PART
        if kind.name == "worst_picture" and isinstance(value, dict):
            self._check_keys(value, ("drift", "part"), place)
            if "drift" not in value:
                self._refuse(place, "worst_picture has no drift; write { drift = 0.5, part = 0.05 }")
            part = self._number(place, "part", value.get("part", part), 0, 1)
            value = value["drift"]
        line = line_of(self._text, place)
        if kind.unit == "bytes":
            return Limit(kind.name, self._bytes(place, value), against, line=line)
        most = 1.0 if kind.unit == "part" and kind.name != "size" else math.inf
        if kind.name == "worst_picture":
            most = 2.0
        return Limit(kind.name, self._number(place, kind.name, value, 0, most), against, part, line)

    def _number(self, place: tuple[str, ...], name: str, value: Any, least: float, most: float) -> float:
        number = value
        if isinstance(value, str) and value.strip().endswith("%"):
            try:
                number = float(value.strip().removesuffix("%")) / 100
            except ValueError:
                number = None
        if type(number) not in (int, float) or not (least <= number <= most and math.isfinite(number)):
            upto = f"from {least:g} to {most:g}" if most < math.inf else f"of {least:g} or more"
            self._refuse(place, f"{name} is {value!r}; give a number {upto}, or a percentage in quotes")
        return float(number)

    def _bytes(self, place: tuple[str, ...], value: Any) -> float:
        if type(value) is int and value > 0:
            return float(value)
        words = value.split() if isinstance(value, str) else []
        try:
            number, unit = float(words[0]), _UNITS[words[1].upper()]
        except (IndexError, ValueError, KeyError):
            number, unit = math.nan, 1
        if not (len(words) == 2 and 0 < number < math.inf):
            self._refuse(place, f'size is {value!r}; give bytes, or "1.3 MB" or "900 KiB" in quotes')
        return number * unit

    def _request(self) -> SweepRequest:
        content, photos = self._content, self._folder("photos")
        if ("model" in content) == ("card" in content):
            what = "names a model and a card" if "card" in content else "names no network"
            self._refuse(("card",) if "card" in content else ("photos",), f"{what}; give model, or card = FILE.toml")
        name = str(self._file("card")) if "card" in content else self._text_at("model")
        bits, protocols = self._bits(name)
        weights = {} if "weights" not in content else {name: self._weights()}
        return SweepRequest(
            dataset=photos,
            models=(name,),
            quants=bits,
            weights=weights,
            protocols=protocols,
            cam=CamSpec(self._choice("cam", CAM_METHODS, "gradcam++")),
            layers={name: self._text_at("layer")} if "layer" in content else {},
            calibration=self._folder("calibration") if "calibration" in content else None,
            limit=self._count("pictures", 1, None, 0) or None,
            seed=self._count("seed", 0, None, 0) if "seed" in content else None,
            labels=self._file("labels") if "labels" in content else None,
            names=names_of_file(self._file("classes")) if "classes" in content else (),
            command=self._command(photos, name, weights),
        )

    def _bits(self, name: str) -> tuple[Any, tuple[str, ...]]:
        """Return the bits to simulate and the protocols; files of a card stand beside them."""
        card = card_of(name)
        in_torch = card is None or card.float_file is None
        if not in_torch and ("bits" in self._content or "protocols" in self._content):
            key = "bits" if "bits" in self._content else "protocols"
            self._refuse((key,), f"{key} simulate networks in torch, and the card is of ONNX files; leave it out")
        files = (GIVEN,) if card is not None and card.files else ()
        own = card.bits if card is not None else ()
        if files and not own and "bits" not in self._content:
            return (), files
        words = self._words("bits") or own or ("8",)
        scheme = self._text_at("scheme") if "scheme" in self._content else "standard"
        try:
            quants = tuple(spec_of(scheme, *parse_bits(word)) for word in words)
        except UsageError as error:
            self._refuse(("scheme",) if "Scheme" in str(error) else ("bits",), str(error).rstrip("."))
        return quants, (*(self._words("protocols") or (CALIBRATED,)), *files)

    def _command(self, photos: Path, name: str, weights: Mapping[str, str]) -> str:
        """Return the command that would make the same study, by which later looks at it find its files."""
        words = ["quantviz", "sweep", str(photos), "--card" if "card" in self._content else "--models", name]
        for model, path in weights.items():
            words += ["--weights", f"{model}={path}"]
        for key, option in (("calibration", "--calibration"), ("labels", "--labels"), ("classes", "--classes")):
            if key in self._content:
                words += [option, str(self._path.parent / Path(self._content[key]).expanduser())]
        return shlex.join(words)

    def _weights(self) -> str:
        weights = self._text_at("weights")
        beside = self._path.parent / Path(weights).expanduser()
        return str(beside) if beside.is_file() else weights

    def _confidence(self) -> float:
        given = self._content.get("confidence", CONFIDENCE)
        if type(given) is not float or not 0.5 < given < 1:
            self._refuse(("confidence",), f"confidence is {given!r}; give a number between 0.5 and 1, 0.95 say")
        return float(given)

    def _count(self, key: str, least: int, most: int | None, usual: int) -> int:
        given = self._content.get(key)
        if given is None:
            return usual
        if type(given) is not int or given < least or (most is not None and given > most):
            upto = f"from {least} to {most}" if most is not None else f"of {least} or more"
            self._refuse((key,), f"{key} is {given!r}; give a whole number {upto}")
        return given

    def _choice(self, key: str, known: Sequence[str], usual: str) -> Any:
        given = self._content.get(key, usual)
        if given not in known:
            self._refuse((key,), f"{key} {given!r} is unknown; use one of {', '.join(known)}")
        return given

    def _words(self, key: str) -> tuple[str, ...]:
        given = self._content.get(key, [])
        words = given if isinstance(given, list) else [given]
        if not all(isinstance(word, str) and word.strip() for word in words) or (key in self._content and not words):
            self._refuse((key,), f'{key} is {given!r}; give names in quotes, ["W8A8"] say')
        return tuple(word.strip() for word in words)

    def _check_keys(self, table: Mapping[str, Any], known: Sequence[str], place: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                where = f" of {place[-1]}" if place else ""
                self._refuse((*place, key), f"key {key!r}{where} is unknown; use {', '.join(known)}")

    def _text_at(self, key: str) -> str:
        value = self._content[key]
        if not isinstance(value, str) or not value.strip():
            self._refuse((key,), f"{key} is {value!r}; give a text in quotes")
        return value.strip()

    def _place(self, key: str) -> Path:
        return self._path.parent / Path(self._text_at(key)).expanduser()

    def _folder(self, key: str) -> Path:
        folder = self._place(key)
        if not folder.is_dir():
            self._refuse((key,), f"there is no folder {str(folder)!r}; paths start in the check file's folder")
        return folder

    def _file(self, key: str) -> Path:
        file = self._place(key)
        if not file.is_file():
            self._refuse((key,), f"there is no file {str(file)!r}; paths start in the check file's folder")
        return file

    def _refuse(self, place: Sequence[str], what: str) -> NoReturn:
        line = line_of(self._text, place) if place else None
        where = f", line {line}" if line else ""
        raise UsageError(f"Check file {self._path.name!r}{where}: {what}.")
