"""Every metric: formula, range, direction, convention, source, cost."""

from quantviz.ui import begin_page, metrics_page
from quantviz.ui.document import show_document

begin_page()
show_document(metrics_page(), depth=3)
