"""Responses on their way to the client: relayed, streamed, or made here."""
