"""The HTTP interface of a server: routes, problem+json errors, size limits."""
