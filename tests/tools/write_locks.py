"""Write the lock files from what is installed: ``name==version`` lines, no addresses.

requirements.lock holds the runtime dependencies and theirs, requirements-cuda.lock those that only PyTorch's CUDA build
needs, requirements-dev.lock what the dev extra adds, and requirements-compiled.lock what of that needs a C compiler.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def closure(name: str, extra: str = "") -> set[str]:
    """Return the canonical names of everything that ``name`` needs on this platform, itself excluded."""
    names: set[str] = set()
    waiting = [Requirement(f"{name}[{extra}]" if extra else name)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        for chosen in ("", *wanted.extras):
            if (wanted.name, chosen) in seen:
                continue
            seen.add((wanted.name, chosen))
            for line in distribution(wanted.name).requires or ():
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": chosen}):
                    names.add(canonicalize_name(needed.name))
                    waiting.append(needed)
    return names - {canonicalize_name(name)}


def main() -> None:
    runtime = closure("quantviz")
    dev = closure("quantviz", "dev") - runtime
    # Constraints, not requirements: pip takes these versions if torch asks for them, which its CPU build does not.
    cuda = {name for name in runtime if name.startswith(("nvidia-", "cuda-")) or name == "triton"}
    # pysaliency is compiled where it is installed; the Makefile goes on without it where there is no compiler.
    compiled = {"pysaliency"}
    for file, names in (
        ("requirements.lock", runtime - cuda),
        ("requirements-cuda.lock", cuda),
        ("requirements-dev.lock", dev - compiled),
        ("requirements-compiled.lock", compiled),
    ):
        lines = (f"{name}=={distribution(name).version}" for name in sorted(names))
        (ROOT / file).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
