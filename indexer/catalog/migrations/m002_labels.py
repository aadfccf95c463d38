"""Labels: taxa, annotations, predictions, and what is fitted or derived from them."""

from __future__ import annotations

__all__ = ["STATEMENTS"]

STATEMENTS = (
    """
    CREATE TABLE taxon (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        "key" TEXT NOT NULL,
        name TEXT NOT NULL,
        scientific_name TEXT NOT NULL,
        genus TEXT NOT NULL,
        family TEXT NOT NULL,
        order_name TEXT NOT NULL,
        run_id INTEGER,
        UNIQUE ("key"),
        FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    """
    CREATE TABLE annotation (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        view_id INTEGER NOT NULL,
        taxon_id INTEGER NOT NULL,
        verdict TEXT NOT NULL,
        who TEXT NOT NULL,
        at TEXT NOT NULL,
        source TEXT NOT NULL,
        run_id INTEGER NOT NULL,
        replaces INTEGER,
        undone_run_id INTEGER,
        CHECK (verdict IN ('positive', 'negative', 'uncertain')),
        FOREIGN KEY(view_id) REFERENCES "view" (id),
        FOREIGN KEY(taxon_id) REFERENCES taxon (id),
        FOREIGN KEY(run_id) REFERENCES run (id),
        FOREIGN KEY(replaces) REFERENCES annotation (id),
        FOREIGN KEY(undone_run_id) REFERENCES run (id)
    )
    """,
    "CREATE INDEX annotation_view ON annotation (view_id)",
    """
    CREATE TABLE prediction (
        view_id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        rank TEXT NOT NULL,
        probability FLOAT NOT NULL,
        species TEXT NOT NULL,
        species_probability FLOAT NOT NULL,
        margin FLOAT NOT NULL,
        p_model FLOAT,
        p_knn FLOAT,
        knn_weight FLOAT NOT NULL,
        unknown FLOAT NOT NULL,
        flags TEXT NOT NULL,
        PRIMARY KEY (view_id, run_id),
        FOREIGN KEY(view_id) REFERENCES "view" (id),
        FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    "CREATE INDEX prediction_run ON prediction (run_id)",
    """
    CREATE TABLE calibration (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        model_id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        parameters TEXT NOT NULL,
        FOREIGN KEY(model_id) REFERENCES model (id),
        FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    """
    CREATE TABLE probe (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        model_id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        classes TEXT NOT NULL,
        weight BLOB NOT NULL,
        bias BLOB NOT NULL,
        parameters TEXT NOT NULL,
        FOREIGN KEY(model_id) REFERENCES model (id),
        FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    """
    CREATE TABLE refinement (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        model_id INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        n INTEGER NOT NULL,
        dim INTEGER NOT NULL,
        parameters TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        file TEXT NOT NULL,
        created_at TEXT NOT NULL,
        UNIQUE (model_id, generation),
        FOREIGN KEY(model_id) REFERENCES model (id)
    )
    """,
)
