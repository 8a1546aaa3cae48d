"""The dashboard: page settings and navigation, nothing else."""

from quantviz.ui import navigation

navigation().run()
