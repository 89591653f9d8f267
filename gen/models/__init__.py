"""The table of contents: one line per chapter, in the order of the lecture."""
