"""Worker processes, for what would hold the interpreter lock."""
