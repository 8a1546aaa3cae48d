"""Python's front door: what ``import quantviz`` offers. Nothing else is stable, whatever its name."""
