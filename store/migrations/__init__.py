"""Ordered migrations of the database; `store.database.open_database` runs them."""
