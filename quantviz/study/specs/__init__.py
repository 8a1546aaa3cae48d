"""The values that a study is spoken of in: its plan and rows, its summary, its table, the published numbers."""
