"""The process that runs a server: settings, keys, the rounds' loop, operations, shutdown."""
