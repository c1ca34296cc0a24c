"""The filter language: its syntax, its nodes, and the matcher that every engine agrees with."""
