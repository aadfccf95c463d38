"""Every value that answers depend on is held a second time, in an index, so that `check` can compare the two.

The last of its release: columns and tables that the migrations before it add are in here too.
"""

from __future__ import annotations

__all__ = ["STATEMENTS"]

STATEMENTS = (
    "CREATE INDEX meta_twice ON meta (key, value)",
    "CREATE INDEX root_twice ON root (id, path, added_at)",
    (
        "CREATE INDEX run_twice ON run (id, command, version, model_id, started_at, finished_at, "
        "outcome, counts, settings)"
    ),
    (
        "CREATE INDEX model_twice ON model (id, name, network, sha256, preprocessing, embedding_size, "
        "classes, head_weight, head_bias, weights_path)"
    ),
    (
        "CREATE INDEX photo_twice ON photo (id, size, format, width, height, captured_at, "
        "offset_minutes, latitude, longitude, altitude_m, camera, lens, serial, phash, sharpness, "
        "run_id, reading, rendering)"
    ),
    (
        "CREATE INDEX file_twice ON file (id, state, device, inode, stage, code, reason, transient, "
        "run_id, digest, reading, capture)"
    ),
    "CREATE INDEX merged_photo_twice ON merged_photo (photo_id, into_id, run_id)",
    "CREATE INDEX former_digest_twice ON former_digest (digest, photo_id)",
    "CREATE INDEX embedding_twice ON embedding (view_id, model_id, run_id)",
    (
        "CREATE INDEX snapshot_twice ON snapshot (id, model_id, generation, seq, n, dim, sha256, file, "
        "created_at, lists, recall, effort)"
    ),
    "CREATE INDEX taxon_twice ON taxon (id, key, name, scientific_name, genus, family, order_name, run_id)",
    (
        "CREATE INDEX annotation_twice ON annotation (id, view_id, taxon_id, verdict, who, at, source, "
        "run_id, replaces, undone_run_id)"
    ),
    (
        "CREATE INDEX prediction_twice ON prediction (view_id, run_id, name, rank, probability, "
        "species, species_probability, margin, p_model, p_knn, knn_weight, unknown, flags)"
    ),
    "CREATE INDEX calibration_twice ON calibration (id, model_id, run_id, created_at, parameters)",
    "CREATE INDEX probe_twice ON probe (id, model_id, run_id, created_at, classes, weight, bias, parameters)",
    (
        "CREATE INDEX refinement_twice ON refinement (id, model_id, generation, seq, n, dim, "
        "parameters, sha256, file, created_at)"
    ),
    "CREATE INDEX fingerprint_twice ON fingerprint (photo_id, version)",
    "CREATE INDEX distinct_pair_twice ON distinct_pair (first_id, second_id, who, at, run_id)",
    (
        "CREATE INDEX quarantine_twice ON quarantine (id, run_id, photo_id, keeper_id, original, "
        "moved_to, digest, state, undone_run_id, companion_of)"
    ),
    (
        "CREATE INDEX deployment_twice ON deployment (id, name, site, folder, camera, starts_at, "
        "ends_at, latitude, longitude, run_id)"
    ),
    "CREATE INDEX event_twice ON event (run_id, photo_id, burst, event, sighting, deployment_id)",
    "CREATE INDEX forgotten_twice ON forgotten (id, run_id, photo_id, path, content, undone_run_id)",
    "CREATE INDEX cluster_twice ON cluster (id, name, run_id)",
    "CREATE INDEX cluster_run_twice ON cluster_run (run_id, model_id, method, parameters, based_on)",
    "CREATE INDEX cluster_member_twice ON cluster_member (run_id, view_id, cluster_id, strength)",
)
