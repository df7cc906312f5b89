"""The console's own database: SQLAlchemy 2 on SQLite or PostgreSQL, migrated by Alembic."""
