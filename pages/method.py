"""How quantviz computes what it shows."""

from pathlib import Path

import quantviz.ui
from quantviz.ui.document import show_document
from quantviz.ui.space import show_space

quantviz.ui.begin_page()
show_document((Path(quantviz.ui.__file__).parent / "method.md").read_text(encoding="utf-8"), depth=3)
with quantviz.ui.guarded():
    show_space()
