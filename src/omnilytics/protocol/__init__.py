"""Sans-IO state and checks of a round (protocol.md): no chain, no HTTP, no database, no clock."""
