"""The catalog's tables, as they are after the last migration.

Migrations hold the statements that make them; a test compares the two. Paths are bytes, since a file name
need not be text. Ids are never used twice (`AUTOINCREMENT`), so that an old id cannot come to mean
another photo.

An index called `<table>_twice` holds the values of a table a second time, on other pages. SQLite writes both in one
transaction, and `PRAGMA integrity_check` compares them: a byte that changed on the disk is found in one of them.
A migration that adds a column makes that index anew, unless it comes before `m007_checksums`, which is to have it.
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

__all__ = [
    "annotation",
    "calibration",
    "change",
    "cluster",
    "cluster_member",
    "cluster_run",
    "deployment",
    "distinct_pair",
    "embedding",
    "event",
    "file",
    "fingerprint",
    "forgotten",
    "former_digest",
    "merged_photo",
    "meta",
    "metadata",
    "model",
    "photo",
    "prediction",
    "probe",
    "quarantine",
    "refinement",
    "root",
    "run",
    "snapshot",
    "taxon",
    "view",
]

metadata = MetaData()

# One row a fact about the catalog itself: `uid` (random, names the catalog), `model` (id of the model in use).
meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True, nullable=False),
    Column("value", Text, nullable=False),
)

# A folder that the user named. A file belongs to the innermost root that holds it.
root = Table(
    "root",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("path", LargeBinary, nullable=False, unique=True),
    Column("added_at", Text, nullable=False),
    sqlite_autoincrement=True,
)

# What was run on the catalog, by which version, how (`settings`: JSON), and what came of it (`counts`: JSON).
run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("command", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("model_id", Integer, ForeignKey("model.id")),
    Column("started_at", Text, nullable=False),
    Column("finished_at", Text),
    Column("outcome", Text),
    Column("counts", Text),
    Column("settings", Text),
    sqlite_autoincrement=True,
)

# A network with its weights and preprocessing, and its linear head: logits = embedding @ head_weight.T + head_bias.
model = Table(
    "model",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("preprocessing", Text, nullable=False),
    Column("embedding_size", Integer, nullable=False),
    Column("classes", Text, nullable=False),
    Column("head_weight", LargeBinary, nullable=False),
    Column("head_bias", LargeBinary, nullable=False),
    Column("weights_path", LargeBinary),
    UniqueConstraint("sha256", "preprocessing"),
    sqlite_autoincrement=True,
)

# One row a distinct picture: a rename, a copy or other metadata adds or changes a `file`, never a `photo`. `digest`
# is the picture's; where `reading` is 0 it is not known yet, and `digest` is the SHA-256 of the file. `reading` and
# `rendering` say how the picture was read when it was embedded. Capture facts are those of the file that counts.
photo = Table(
    "photo",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("size", Integer, nullable=False),
    Column("format", Text, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("captured_at", Text),
    Column("offset_minutes", Integer),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("altitude_m", Float),
    Column("camera", Text),
    Column("lens", Text),
    Column("serial", Text),
    Column("phash", LargeBinary),
    Column("sharpness", Float),
    Column("run_id", Integer, ForeignKey("run.id")),
    Column("reading", Integer, nullable=False, server_default=text("0")),
    Column("rendering", Text),
    Index("photo_captured_at", "captured_at"),
    Index("photo_unread", "size", sqlite_where=text("reading = 0")),
    sqlite_autoincrement=True,
)

# A path under a root, and what was found there when it was last looked at. An `error` row keeps its photo
# where the failure says nothing about the content (an I/O error, a folder without permission): a file that
# cannot be read for now is not a deleted one. `digest` is the file's own (33 bytes), or its SHA-256 (32) where it
# was last read by reading 0. `capture` (JSON) is what this file says about how the photo was taken and is to be
# shown, where that is another than its photo's row says.
file = Table(
    "file",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("root_id", Integer, ForeignKey("root.id"), nullable=False),
    Column("path", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("photo_id", Integer, ForeignKey("photo.id")),
    Column("size", Integer, nullable=False),
    Column("mtime_ns", Integer, nullable=False),
    Column("ctime_ns", Integer, nullable=False),
    Column("device", Integer, nullable=False),
    Column("inode", Integer, nullable=False),
    Column("stage", Text),
    Column("code", Text),
    Column("reason", Text),
    Column("transient", Integer, nullable=False),
    Column("run_id", Integer, ForeignKey("run.id")),
    Column("digest", LargeBinary),
    Column("reading", Integer, nullable=False, server_default=text("0")),
    Column("capture", Text),
    UniqueConstraint("root_id", "path"),
    CheckConstraint("state IN ('present', 'missing', 'error')"),
    CheckConstraint("state = 'error' OR photo_id IS NOT NULL"),
    Index("file_photo", "photo_id"),
    sqlite_autoincrement=True,
)

# Photos that turned out to be the picture of another one: all that was known of them belongs to `into_id` now.
merged_photo = Table(
    "merged_photo",
    metadata,
    Column("photo_id", Integer, primary_key=True, nullable=False),
    Column("into_id", Integer, nullable=False),
    Column("run_id", Integer, ForeignKey("run.id")),
)

# SHA-256 of files by which catalogs before schema 5 knew photos, so that tables that name them are understood.
former_digest = Table(
    "former_digest",
    metadata,
    Column("digest", LargeBinary, primary_key=True, nullable=False),
    Column("photo_id", Integer, nullable=False),
)

# A region of a photo, relative to its upright frame: `whole` is 0, 0, 1, 1.
view = Table(
    "view",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("photo_id", Integer, ForeignKey("photo.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("x", Float, nullable=False),
    Column("y", Float, nullable=False),
    Column("w", Float, nullable=False),
    Column("h", Float, nullable=False),
    UniqueConstraint("photo_id", "kind", "x", "y", "w", "h"),
    CheckConstraint("kind IN ('whole', 'tile', 'box')"),
    sqlite_autoincrement=True,
)

# The un-normalised float32 little-endian vector of a view, with the crc32 of its bytes and the run that made it.
embedding = Table(
    "embedding",
    metadata,
    Column("view_id", Integer, ForeignKey("view.id"), primary_key=True, nullable=False),
    Column("model_id", Integer, ForeignKey("model.id"), primary_key=True, nullable=False),
    Column("vector", LargeBinary, nullable=False),
    Column("crc32", Integer, nullable=False),
    Column("run_id", Integer, ForeignKey("run.id")),
)

# Append-only: followers replay it from the seq they have seen. `add` and `remove` of (view, model); a view that was
# forgotten has no row any more.
change = Table(
    "change",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("op", Text, nullable=False),
    Column("view_id", Integer, nullable=False),
    Column("model_id", Integer, ForeignKey("model.id"), nullable=False),
    CheckConstraint("op IN ('add', 'remove')"),
    sqlite_autoincrement=True,
)

# A vector index on disk: it holds what `change` said up to `seq`, and its head hashes to `sha256`. `lists` is how
# many lists its vectors lie in, 0 if a search looks at all of them, empty for files of a format that is no longer
# read; `recall` is the measured share of the true nearest that a search finds, `effort` (JSON) into how many lists
# it has to look for that.
snapshot = Table(
    "snapshot",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model_id", Integer, ForeignKey("model.id"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("dim", Integer, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("lists", Integer),
    Column("recall", Float),
    Column("effort", Text),
    UniqueConstraint("model_id", "generation"),
    sqlite_autoincrement=True,
)

# What verified labels name: every taxon that a label of this catalog ever named, and those that the user added
# to the taxonomy. `key` is the name with its spelling set aside; ranks that are not known are empty.
taxon = Table(
    "taxon",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("scientific_name", Text, nullable=False),
    Column("genus", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("order_name", Text, nullable=False),
    Column("run_id", Integer, ForeignKey("run.id")),
    sqlite_autoincrement=True,
)

# Verified labels, append-only. `replaces` is the row that was in force for the view before; a row whose run was
# undone has that later run in `undone_run_id` and counts no more, and what it replaced is in force again.
annotation = Table(
    "annotation",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("view_id", Integer, ForeignKey("view.id"), nullable=False),
    Column("taxon_id", Integer, ForeignKey("taxon.id"), nullable=False),
    Column("verdict", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    Column("replaces", Integer, ForeignKey("annotation.id")),
    Column("undone_run_id", Integer, ForeignKey("run.id")),
    CheckConstraint("verdict IN ('positive', 'negative', 'uncertain')"),
    Index("annotation_view", "view_id"),
    sqlite_autoincrement=True,
)

# What a `label` run said about a view: the label at the rank that reached the asked confidence, and the evidence.
prediction = Table(
    "prediction",
    metadata,
    Column("view_id", Integer, ForeignKey("view.id"), primary_key=True, nullable=False),
    Column("run_id", Integer, ForeignKey("run.id"), primary_key=True, nullable=False),
    Column("name", Text, nullable=False),
    Column("rank", Text, nullable=False),
    Column("probability", Float, nullable=False),
    Column("species", Text, nullable=False),
    Column("species_probability", Float, nullable=False),
    Column("margin", Float, nullable=False),
    Column("p_model", Float),
    Column("p_knn", Float),
    Column("knn_weight", Float, nullable=False),
    Column("unknown", Float, nullable=False),
    Column("flags", Text, nullable=False),
    Index("prediction_run", "run_id"),
)

# Parameters of the label estimate, fitted on the verified labels that there were (JSON); the newest is in use.
calibration = Table(
    "calibration",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model_id", Integer, ForeignKey("model.id"), nullable=False),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    Column("created_at", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    sqlite_autoincrement=True,
)

# A linear classifier on unit-norm embeddings, fitted on verified labels: logits = unit @ weight.T + bias.
probe = Table(
    "probe",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model_id", Integer, ForeignKey("model.id"), nullable=False),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    Column("created_at", Text, nullable=False),
    Column("classes", Text, nullable=False),
    Column("weight", LargeBinary, nullable=False),
    Column("bias", LargeBinary, nullable=False),
    Column("parameters", Text, nullable=False),
    sqlite_autoincrement=True,
)

# Derived vectors on disk, made from the embeddings that there were at `seq`; like `snapshot`, to be thrown away.
refinement = Table(
    "refinement",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model_id", Integer, ForeignKey("model.id"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("dim", Integer, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    UniqueConstraint("model_id", "generation"),
    sqlite_autoincrement=True,
)

# A small picture of a photo, kept once it was needed to tell copies; what is in it, `version` says.
fingerprint = Table(
    "fingerprint",
    metadata,
    Column("photo_id", Integer, ForeignKey("photo.id"), primary_key=True, nullable=False),
    Column("version", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
)

# Two photos that a person said are no copies of each other.
distinct_pair = Table(
    "distinct_pair",
    metadata,
    Column("first_id", Integer, ForeignKey("photo.id"), primary_key=True, nullable=False),
    Column("second_id", Integer, ForeignKey("photo.id"), primary_key=True, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    CheckConstraint("first_id < second_id"),
)

# The undo log of files that were moved out of an archive. A row is `planned` and committed before its file is
# touched, so that a run that was cut short says what it may have moved. `companion_of` is the row of the photo file
# that a sidecar or the like belongs to and moves with.
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    Column("photo_id", Integer, ForeignKey("photo.id"), nullable=False),
    Column("keeper_id", Integer, ForeignKey("photo.id"), nullable=False),
    Column("original", LargeBinary, nullable=False),
    Column("moved_to", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("undone_run_id", Integer, ForeignKey("run.id")),
    Column("companion_of", Integer, ForeignKey("quarantine.id")),
    CheckConstraint("state IN ('planned', 'moved', 'restored', 'failed')"),
    Index("quarantine_run", "run_id"),
    sqlite_autoincrement=True,
)

# A photo that was forgotten: all its rows, by table (JSON), so that it can be brought back with its ids.
forgotten = Table(
    "forgotten",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    Column("photo_id", Integer, nullable=False),
    Column("path", LargeBinary, nullable=False),
    Column("content", Text, nullable=False),
    Column("undone_run_id", Integer, ForeignKey("run.id")),
    Index("forgotten_run", "run_id"),
    sqlite_autoincrement=True,
)

# A camera at a place for a time: photos in its folder, or of its camera and between its times, are of it.
deployment = Table(
    "deployment",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("site", Text, nullable=False),
    Column("folder", LargeBinary),
    Column("camera", Text),
    Column("starts_at", Text),
    Column("ends_at", Text),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    sqlite_autoincrement=True,
)

# What a `sightings` run joined: burst, event and sighting are each named by the smallest photo id in them.
event = Table(
    "event",
    metadata,
    Column("run_id", Integer, ForeignKey("run.id"), primary_key=True, nullable=False),
    Column("photo_id", Integer, ForeignKey("photo.id"), primary_key=True, nullable=False),
    Column("burst", Integer, nullable=False),
    Column("event", Integer, nullable=False),
    Column("sighting", Integer, nullable=False),
    Column("deployment_id", Integer, ForeignKey("deployment.id")),
)

# A cluster keeps its id from run to run as long as most of its members do, and with it its name.
cluster = Table(
    "cluster",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    sqlite_autoincrement=True,
)

# One state of the clusters: a clustering, or an edit by hand of the one that it is based on.
cluster_run = Table(
    "cluster_run",
    metadata,
    Column("run_id", Integer, ForeignKey("run.id"), primary_key=True, nullable=False),
    Column("model_id", Integer, ForeignKey("model.id"), nullable=False),
    Column("method", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("based_on", Integer, ForeignKey("run.id")),
)

# `cluster_id` is empty for an outlier; `strength` is how well the view fits its cluster, 0..1.
cluster_member = Table(
    "cluster_member",
    metadata,
    Column("run_id", Integer, ForeignKey("cluster_run.run_id"), primary_key=True, nullable=False),
    Column("view_id", Integer, ForeignKey("view.id"), primary_key=True, nullable=False),
    Column("cluster_id", Integer, ForeignKey("cluster.id")),
    Column("strength", Float, nullable=False),
    Index("cluster_member_cluster", "cluster_id"),
)

# Columns that no index `<table>_twice` holds, because something else tells when a byte of them changed.
_HELD_ONCE = {
    "photo": {"digest"},  # has a unique index of its own
    # `root_id` and `path` have a unique index, `photo_id` another; where the rest differs the file is read again.
    "file": {"root_id", "path", "photo_id", "size", "mtime_ns", "ctime_ns"},
    "embedding": {"vector", "crc32"},  # each is the other's check
    "fingerprint": {"content"},  # holds a crc32 of itself
}
# A view is in its unique index; `change` is compared by the vector index that follows it.
_TABLES_HELD_ONCE = {"view", "change"}

for _table in metadata.tables.values():
    if _table.name not in _TABLES_HELD_ONCE:
        _held_once = _HELD_ONCE.get(_table.name, set())
        Index(f"{_table.name}_twice", *(column for column in _table.c if column.name not in _held_once))
