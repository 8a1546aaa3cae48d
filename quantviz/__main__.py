"""Run the command line as ``python -m quantviz``."""

from quantviz.cli import main

if __name__ == "__main__":
    main()
