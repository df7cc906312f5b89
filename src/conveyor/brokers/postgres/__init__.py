"""The PostgreSQL store: one schema of a database, reached with asyncpg."""
