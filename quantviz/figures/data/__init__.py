"""What figures show, prepared once for both renderers: numbers, order, words and looks. Imports no drawing library."""
