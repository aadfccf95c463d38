"""The catalog: one SQLite file that is the truth; all SQL is here."""
