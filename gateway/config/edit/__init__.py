"""Edits of the routing config's text that keep all else of it, to the character: comments, order, quotes,
indents, line ends. A round trip through a library that keeps comments was tried: it still wrote a hundred
lines of this project's own config anew for an edit of one, and took 2.4 s for 1,000 routes.
"""
