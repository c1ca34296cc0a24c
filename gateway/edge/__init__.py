"""The two sides of the wire; the only room that maps aiohttp's exceptions."""
