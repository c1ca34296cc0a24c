"""What the token endpoint refuses, in the words and the form of RFC 6749 section 5.2."""

from __future__ import annotations

import json
from typing import Literal

from gateway.auth.oauth.form import NOT_STORED
from gateway.core.errors import REALM
from gateway.edge.response.own import OwnResponse

Code = Literal[
    "invalid_request", "invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope"
]
_CHALLENGE = {"WWW-Authenticate": f'Basic realm="{REALM}", charset="UTF-8"'}


class OAuthError(Exception):
    """description: a sentence for the developer of the client; it never holds what was sent."""

    def __init__(self, code: Code, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description

    def response(self) -> OwnResponse:
        """400, or for a client that is not known 401 with the challenge that 401 needs."""
        body = json.dumps({"error": self.code, "error_description": self.description})
        unknown = self.code == "invalid_client"
        headers = NOT_STORED | (_CHALLENGE if unknown else {})
        return OwnResponse(401 if unknown else 400, body.encode(), headers=headers)
