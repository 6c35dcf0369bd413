"""The stores: SQLite and PostgreSQL, with the options and URLs that open them."""
