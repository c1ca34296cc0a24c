"""The live config: its text, its checks, and the snapshot that counts now."""
