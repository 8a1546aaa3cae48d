"""Figures as files for a paper, by matplotlib's object interface: pyplot keeps global state and is not used."""
