"""Order in an archive: copies that are none, quarantine, deployments, events, clusters."""

from __future__ import annotations

__all__ = ["STATEMENTS"]

STATEMENTS = (
    """
    CREATE TABLE fingerprint (
        photo_id INTEGER NOT NULL PRIMARY KEY,
        version INTEGER NOT NULL,
        content BLOB NOT NULL,
        FOREIGN KEY(photo_id) REFERENCES photo (id)
    )
    """,
    """
    CREATE TABLE distinct_pair (
        first_id INTEGER NOT NULL,
        second_id INTEGER NOT NULL,
        who TEXT NOT NULL,
        at TEXT NOT NULL,
        run_id INTEGER NOT NULL,
        PRIMARY KEY (first_id, second_id),
        CHECK (first_id < second_id),
        FOREIGN KEY(first_id) REFERENCES photo (id),
        FOREIGN KEY(second_id) REFERENCES photo (id),
        FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    """
    CREATE TABLE quarantine (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        run_id INTEGER NOT NULL,
        photo_id INTEGER NOT NULL,
        keeper_id INTEGER NOT NULL,
        original BLOB NOT NULL,
        moved_to BLOB NOT NULL,
        digest BLOB NOT NULL,
        state TEXT NOT NULL,
        undone_run_id INTEGER,
        CHECK (state IN ('planned', 'moved', 'restored', 'failed')),
        FOREIGN KEY(run_id) REFERENCES run (id),
        FOREIGN KEY(photo_id) REFERENCES photo (id),
        FOREIGN KEY(keeper_id) REFERENCES photo (id),
        FOREIGN KEY(undone_run_id) REFERENCES run (id)
    )
    """,
    "CREATE INDEX quarantine_run ON quarantine (run_id)",
    """
    CREATE TABLE deployment (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        site TEXT NOT NULL,
        folder BLOB,
        camera TEXT,
        starts_at TEXT,
        ends_at TEXT,
        latitude FLOAT,
        longitude FLOAT,
        run_id INTEGER NOT NULL,
        UNIQUE (name),
        FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    """
    CREATE TABLE event (
        run_id INTEGER NOT NULL,
        photo_id INTEGER NOT NULL,
        burst INTEGER NOT NULL,
        event INTEGER NOT NULL,
        sighting INTEGER NOT NULL,
        deployment_id INTEGER,
        PRIMARY KEY (run_id, photo_id),
        FOREIGN KEY(run_id) REFERENCES run (id),
        FOREIGN KEY(photo_id) REFERENCES photo (id),
        FOREIGN KEY(deployment_id) REFERENCES deployment (id)
    )
    """,
    """
    CREATE TABLE cluster (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        name TEXT,
        run_id INTEGER NOT NULL,
        FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    """
    CREATE TABLE cluster_run (
        run_id INTEGER NOT NULL PRIMARY KEY,
        model_id INTEGER NOT NULL,
        method TEXT NOT NULL,
        parameters TEXT NOT NULL,
        based_on INTEGER,
        FOREIGN KEY(run_id) REFERENCES run (id),
        FOREIGN KEY(model_id) REFERENCES model (id),
        FOREIGN KEY(based_on) REFERENCES run (id)
    )
    """,
    """
    CREATE TABLE cluster_member (
        run_id INTEGER NOT NULL,
        view_id INTEGER NOT NULL,
        cluster_id INTEGER,
        strength FLOAT NOT NULL,
        PRIMARY KEY (run_id, view_id),
        FOREIGN KEY(run_id) REFERENCES cluster_run (run_id),
        FOREIGN KEY(view_id) REFERENCES "view" (id),
        FOREIGN KEY(cluster_id) REFERENCES cluster (id)
    )
    """,
    "CREATE INDEX cluster_member_cluster ON cluster_member (cluster_id)",
)
