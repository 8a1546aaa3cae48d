"""A study's report: tables, LaTeX, and one HTML page."""
