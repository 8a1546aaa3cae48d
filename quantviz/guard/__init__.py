"""Limits on what quantization changes, decided by confidence bounds: for continuous integration.

A check file (``file.py``) states limits; ``run.py`` finds or makes the study that they are judged on; ``decide.py``
decides each by its confidence bound; ``junit.py``, ``markdown.py`` and ``record.py`` write what came of it.
"""
