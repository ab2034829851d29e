"""What a server keeps: records in a database, bulk content in files under their hash.

`repository` is what roles use; `migration`, `backup`, `reconciliation` and `retention` are for
operators and the daemon; `jobs`, `outbox` and `chain_logs` hold the daemon's own work.
"""
