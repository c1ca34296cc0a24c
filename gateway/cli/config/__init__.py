"""The operator's commands for the live config of a running gateway, over its admin API.

They import nothing that serves: no aiohttp, ASAB or pydantic, which take longer than the answer.
"""

# The commands of this folder that need no package of the gateway's to be there (see gateway.__main__).
LIGHT = ("revisions", "diff", "apply", "rollback", "edit", "confirm", "audit", "nodes", "console", "reload")
TOKEN_VARIABLE = "GATEWAY_ADMIN_TOKEN"  # noqa: S105 - its name
