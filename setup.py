"""Carry the dashboard in the wheel; everything else that setuptools needs is in pyproject.toml.

app.py, pages/ and .streamlit/config.toml stand at the top of the repository and are no package. A wheel holds them as
quantviz/_dashboard/, which ``quantviz serve`` starts; a checkout has no such folder and is served from its top.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithDashboard(build_py):
    """Build the package, and copy the dashboard's files into it."""

    def run(self) -> None:
        """Copy the files; an editable installation serves those of the checkout."""
        super().run()
        if not self.editable_mode:
            for source, target in self._dashboard().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return everything that is built, so that the wheel's record names the dashboard as well."""
        outputs: list[str] = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, *self._dashboard().values()]

    def _dashboard(self) -> dict[str, str]:
        files = ["app.py", ".streamlit/config.toml", *sorted(map(str, Path("pages").glob("*.py")))]
        return {file: str(Path(self.build_lib, "quantviz", "_dashboard", file)) for file in files}


setup(cmdclass={"build_py": BuildWithDashboard})
