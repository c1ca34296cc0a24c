"""What a request to documents says: body, parameters, preconditions, keys, scopes, time."""
