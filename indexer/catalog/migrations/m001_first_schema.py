"""The first schema: roots, files, photos, views, embeddings, the change log and its followers."""

from __future__ import annotations

__all__ = ["STATEMENTS"]

STATEMENTS = (
    """
    CREATE TABLE meta (
        "key" TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY ("key")
    )
    """,
    """
    CREATE TABLE model (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        network TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        preprocessing TEXT NOT NULL,
        embedding_size INTEGER NOT NULL,
        classes TEXT NOT NULL,
        head_weight BLOB NOT NULL,
        head_bias BLOB NOT NULL,
        weights_path BLOB,
        UNIQUE (sha256, preprocessing)
    )
    """,
    """
    CREATE TABLE root (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        path BLOB NOT NULL,
        added_at TEXT NOT NULL,
        UNIQUE (path)
    )
    """,
    """
    CREATE TABLE run (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        command TEXT NOT NULL,
        version TEXT NOT NULL,
        model_id INTEGER,
        started_at TEXT NOT NULL,
        finished_at TEXT,
        outcome TEXT,
        counts TEXT,
        FOREIGN KEY(model_id) REFERENCES model (id)
    )
    """,
    """
    CREATE TABLE snapshot (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        model_id INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        n INTEGER NOT NULL,
        dim INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        file TEXT NOT NULL,
        created_at TEXT NOT NULL,
        UNIQUE (model_id, generation),
        FOREIGN KEY(model_id) REFERENCES model (id)
    )
    """,
    """
    CREATE TABLE photo (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        digest BLOB NOT NULL,
        size INTEGER NOT NULL,
        format TEXT NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        captured_at TEXT,
        offset_minutes INTEGER,
        latitude FLOAT,
        longitude FLOAT,
        altitude_m FLOAT,
        camera TEXT,
        lens TEXT,
        serial TEXT,
        phash BLOB,
        sharpness FLOAT,
        run_id INTEGER,
        UNIQUE (digest),
        FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    "CREATE INDEX photo_captured_at ON photo (captured_at)",
    """
    CREATE TABLE file (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        root_id INTEGER NOT NULL,
        path BLOB NOT NULL,
        state TEXT NOT NULL,
        photo_id INTEGER,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL,
        device INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        stage TEXT,
        code TEXT,
        reason TEXT,
        transient INTEGER NOT NULL,
        run_id INTEGER,
        UNIQUE (root_id, path),
        CHECK (state IN ('present', 'missing', 'error')),
        CHECK (state = 'error' OR photo_id IS NOT NULL),
        FOREIGN KEY(root_id) REFERENCES root (id),
        FOREIGN KEY(photo_id) REFERENCES photo (id),
        FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    "CREATE INDEX file_photo ON file (photo_id)",
    """
    CREATE TABLE "view" (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        photo_id INTEGER NOT NULL,
        kind TEXT NOT NULL,
        x FLOAT NOT NULL,
        y FLOAT NOT NULL,
        w FLOAT NOT NULL,
        h FLOAT NOT NULL,
        UNIQUE (photo_id, kind, x, y, w, h),
        CHECK (kind IN ('whole', 'tile', 'box')),
        FOREIGN KEY(photo_id) REFERENCES photo (id)
    )
    """,
    """
    CREATE TABLE change (
        seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        op TEXT NOT NULL,
        view_id INTEGER NOT NULL,
        model_id INTEGER NOT NULL,
        CHECK (op IN ('add', 'remove')),
        FOREIGN KEY(view_id) REFERENCES "view" (id),
        FOREIGN KEY(model_id) REFERENCES model (id)
    )
    """,
    """
    CREATE TABLE embedding (
        view_id INTEGER NOT NULL,
        model_id INTEGER NOT NULL,
        vector BLOB NOT NULL,
        crc32 INTEGER NOT NULL,
        PRIMARY KEY (view_id, model_id),
        FOREIGN KEY(view_id) REFERENCES "view" (id),
        FOREIGN KEY(model_id) REFERENCES model (id)
    )
    """,
)
