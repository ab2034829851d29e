"""What a server keeps: records in a database, bulk content in files under their hash."""
