"""The process and its children: supervisor, folders, lock, signals, drain."""
