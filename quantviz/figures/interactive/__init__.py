"""Plotly figures for the page. Colours of text and paper are left to the page's theme."""
