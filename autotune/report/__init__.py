"""Everything that turns tables and results into something to read.

Each module computes a frozen dataclass by pure functions and then renders it: as text, as a JSON document, as Markdown.
"""
