"""HPKE sealing, authentication of HTTP requests, and the client of a server's HTTP interface."""
