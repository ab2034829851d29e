"""The steps from each schema of a server's database to the next, run by alembic.

`storage.migration` runs them; the files in `versions` are never changed once they were released.
A new one: put it after the last, add its number to `migration.REVISIONS`, change `schema.py`.
"""
