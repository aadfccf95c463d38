"""`birdsearch cluster` and what is under it, as they are typed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from PIL import Image

from birdsearch.cli.annotate import annotate
from birdsearch.cli.cluster import cluster
from birdsearch.errors import CatalogLockedError, InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore, now
from birdsearch.indexer.catalog.verified_labels import labels_in_force

MakePhoto = Callable[..., Path]
DIM = 16
SIZES = (9, 8, 7)
COUNT = sum(SIZES)
K3 = ("--method", "kmeans", "--clusters", 3)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, make_photo: MakePhoto) -> Path:
    """A picture a day, two cameras in turn, vectors of three kinds; written row by row, which needs no network."""
    archive = tmp_path_factory.mktemp("cluster") / "archive"
    folder = tmp_path_factory.mktemp("cluster") / "catalog"
    rng = np.random.default_rng(1)
    kinds = np.repeat(np.arange(len(SIZES)), SIZES)
    with CatalogStore.open(folder, "create") as store, store.writing() as connection:
        add = connection.execute
        head = np.zeros((1, DIM), "<f4").tobytes()
        add(
            sa.insert(schema.model).values(
                id=1, name="made-up", network="xcit_nano12_p16", sha256="0" * 64, preprocessing="none",
                embedding_size=DIM, classes='["bird"]', head_weight=head, head_bias=head[:4],
            )
        )  # fmt: skip
        add(sa.insert(schema.meta).values(key="model", value="1"))
        add(sa.insert(schema.root).values(id=1, path=os.fsencode(archive), added_at=now()))
        for place, kind in enumerate(kinds.tolist()):
            name, row = f"{place:02d}.png", place + 1
            content = make_photo(archive / name, place).read_bytes()
            vector = (np.eye(DIM)[kind] + 0.02 * rng.normal(size=DIM)).astype("<f4").tobytes()
            add(
                sa.insert(schema.photo).values(
                    id=row, digest=hashlib.sha256(content).digest(), size=len(content), format="PNG", width=48,
                    height=36, captured_at=f"2023-05-{row:02d}T06:30:00",
                    camera="Canon" if row % 2 else "Nikon",
                )
            )  # fmt: skip
            add(
                sa.insert(schema.file).values(
                    root_id=1, path=name.encode(), state="present", photo_id=row, size=len(content), mtime_ns=0,
                    ctime_ns=0, device=0, inode=row, transient=0,
                )
            )  # fmt: skip
            add(sa.insert(schema.view).values(id=row, photo_id=row, kind="whole", x=0, y=0, w=1, h=1))
            add(
                sa.insert(schema.embedding).values(
                    view_id=row, model_id=1, vector=vector, crc32=zlib.crc32(vector)
                )
            )
            add(sa.insert(schema.change).values(op="add", view_id=row, model_id=1))
    return folder


@pytest.fixture
def catalog(indexed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(indexed, tmp_path / "catalog"))


@pytest.fixture(scope="module")
def clustered_once(indexed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(indexed, tmp_path_factory.mktemp("cluster") / "clustered"))
    done("", folder, *K3)
    return folder


@pytest.fixture
def clustered(clustered_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clustered_once, tmp_path / "clustered"))


def run(sub: str, catalog: Path, *arguments: object, command: click.Command = cluster) -> Result:
    words = [*([sub] if sub else []), *map(str, arguments), "--catalog", str(catalog)]
    return CliRunner().invoke(command, words)


def done(sub: str, catalog: Path, *arguments: object, command: click.Command = cluster) -> str:
    result = run(sub, catalog, *arguments, command=command)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def sizes(catalog: Path) -> dict[int, int]:
    found = json.loads(done("list", catalog, "--format", "json"))
    return {row["cluster_id"]: row["photos"] for row in found["clusters"]}


def verified(catalog: Path) -> dict[int, str]:
    with CatalogStore.open(catalog) as store:
        return {label.photo_id: label.name for label in labels_in_force(store)}


def refused(result: Result, *said: str) -> None:
    assert isinstance(result.exception, InvalidInputError | SystemExit), result.output
    text = result.output + str(result.exception)
    for part in said:
        assert part in text


# -- clustering ----------------------------------------------------------------------------------------------


def test_a_row_a_cluster_is_printed_and_the_summary_goes_to_stderr(catalog: Path) -> None:
    result = run("", catalog, *K3)
    assert result.exit_code == 0, result.exception
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["Cluster", "Photos", "Events", "Strength", "Cameras", "First", "Last"]
    assert [line.split()[:3] for line in lines[1:]] == [["1", "9", "9"], ["2", "8", "8"], ["3", "7", "7"]]
    assert lines[1].split()[-2:] == ["2023-05-01", "2023-05-09"]
    assert result.stderr.startswith(f"3 clusters and 0 outliers of {COUNT} photos (kmeans")
    assert "clusters do not follow the camera: mutual information " in result.stderr
    assert done("list", catalog) == result.stdout
    again = run("", catalog, *K3)
    assert again.stdout == result.stdout
    assert "; 3 clusters known from before" in again.stderr


def test_the_method_that_is_chosen_by_itself_finds_the_kinds(catalog: Path) -> None:
    found = json.loads(done("", catalog, "--format", "json"))
    assert found["method"] == "auto"
    assert [row["photos"] for row in found["clusters"]] == list(SIZES)
    assert found["outliers"] is None


def test_json_and_csv_say_all_that_is_known(clustered: Path) -> None:
    done("label", clustered, 2, "Moss owl", "--allow-new", "--except", 10)
    done("set", clustered, "#18", "#19", "--as", "Moss owl", command=annotate)
    found = json.loads(done("list", clustered, "--format", "json"))
    assert list(found) == [
        *("run", "clustering", "method", "parameters", "scores", "purity", "clusters", "outliers"),
        *("site_check", "warnings"),
    ]
    second = found["clusters"][1]
    assert second == second | {
        "cluster_id": 2, "name": "", "photos": 8, "events": 8, "sites": 2, "label": "Moss owl",
        "label_share": 1.0, "verified": 7, "judged": 0, "purity": None, "one_site": None,
        "first": "2023-05-10T06:30:00",
    }  # fmt: skip
    assert found["purity"] == 1.0
    assert found["site_check"]["kind"] == "camera"
    table = list(csv.DictReader(io.StringIO(done("list", clustered, "--format", "csv"))))
    assert list(table[0]) == list(second)
    assert [row["photos"] for row in table] == ["9", "8", "7"]
    assert "100% of 2" in done("list", clustered)


def test_conditions_choose_the_photos(catalog: Path) -> None:
    found = json.loads(done("", catalog, *K3, "--camera", "nikon", "--format", "json"))
    assert sum(row["photos"] for row in found["clusters"]) == COUNT // 2
    refused(run("", catalog, *K3, "--since", "2030"), "there is no photo to cluster")
    assert sum(sizes(catalog).values()) == COUNT // 2


def test_what_does_not_fit_together_is_told_before_anything_is_done(catalog: Path) -> None:
    refused(
        run("", catalog, "--method", "graph", "--clusters", 3), "graph finds the number of clusters itself"
    )
    refused(run("", catalog, "--out", "a.txt"), "--out takes a .csv, .parquet or .json, not 'a.txt'")
    with CliRunner().isolation():
        result = CliRunner().invoke(cluster, ["--frames", "list", "--catalog", str(catalog)])
    refused(result, "give --frames after `list`, not before it")
    refused(run("list", catalog), "nothing is clustered yet; run `birdsearch cluster`")
    refused(run("undo", catalog), "nothing is clustered yet")
    with CatalogStore.open(catalog) as store, store.reading() as connection:
        assert (
            connection.execute(sa.select(sa.func.count()).select_from(schema.cluster_run)).scalar_one() == 0
        )


def test_a_report_and_a_table_of_members_are_written(catalog: Path, tmp_path: Path) -> None:
    result = run("", catalog, *K3, "--report", tmp_path / "report", "--out", tmp_path / "members.csv")
    assert result.exit_code == 0, result.exception
    assert f"report: {tmp_path / 'report' / 'clusters.html'}" in result.stderr
    assert "3 clusters of 24 photos" in (tmp_path / "report" / "clusters.html").read_text()
    with (tmp_path / "members.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["cluster_id"] for row in rows] == ["1"] * 9 + ["2"] * 8 + ["3"] * 7
    done("list", catalog, "--out", tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "members.csv").read_bytes()


# -- one cluster -------------------------------------------------------------------------------------------


def test_the_photos_of_a_cluster_are_shown_and_drawn(clustered: Path, tmp_path: Path) -> None:
    rows = json.loads(done("show", clustered, 3, "--format", "json"))
    assert sorted(row["photo_id"] for row in rows) == list(range(18, 25))
    strengths = [row["strength"] for row in rows]
    assert strengths == sorted(strengths, reverse=True)
    lines = done("show", clustered, 3, "--sheet", tmp_path / "3.png").splitlines()
    assert lines[0].split() == ["Photo", "Strength", "Event", "Taken", "Label", "Path"]
    assert [int(line.split()[0]) for line in lines[1:]] == [row["photo_id"] for row in rows]
    with Image.open(tmp_path / "3.png") as sheet:
        assert sheet.format == "PNG"
    done("show", clustered, 3, "--sheet", tmp_path / "3.html")
    assert (tmp_path / "3.html").read_text().count("<img ") == 7
    refused(run("show", clustered, 9), "there is no cluster 9 now; `birdsearch cluster list` shows")
    refused(run("show", clustered, "outliers"), "there are no outliers")
    refused(run("show", clustered, "x"), "'x' is no cluster id")
    refused(run("show", clustered, "²"), "'²' is no cluster id")


def test_clusters_are_named_merged_split_and_taken_back(clustered: Path) -> None:
    assert "cluster 2 is 'grey ones' now (run " in done("name", clustered, 2, "grey ones")
    assert "cluster 2 has 15 photos now" in done("merge", clustered, 2, 3)
    assert sizes(clustered) == {1: 9, 2: 15}
    assert "cluster 2 has 8 photos, cluster 4 has 7 photos" in done("split", clustered, 2)
    assert "cluster 1 has 7 photos, cluster 5 has 2 photos" in done("split", clustered, 1, "--photos", "1,#2")
    assert sizes(clustered) == {1: 7, 2: 8, 4: 7, 5: 2}
    refused(run("split", clustered, 1, "--into", 2, "--photos", 3), "two ways to split")
    for expected in ({1: 9, 2: 8, 4: 7}, {1: 9, 2: 15}, {1: 9, 2: 8, 3: 7}):
        assert "taken back by run" in done("undo", clustered)
        assert sizes(clustered) == expected
    result = run("", clustered, *K3)
    assert "grey ones" in result.stdout
    assert sizes(clustered) == {1: 9, 2: 8, 3: 7}


def test_a_rerun_says_that_it_dropped_edits(clustered: Path) -> None:
    done("merge", clustered, 1, 3)
    result = run("", clustered, *K3)
    assert (
        "Warning: 1 merge or split by hand since the clustering before left out; `birdsearch" in result.stderr
    )
    done("undo", clustered)
    assert sizes(clustered) == {1: 16, 2: 8}


# -- labels ------------------------------------------------------------------------------------------------


def test_a_cluster_is_labelled_at_once_and_annotate_takes_it_back(clustered: Path) -> None:
    text = done("label", clustered, 3, "eurasian hoopoe", "--except", "18,#20", "--who", "ada")
    assert "5 labels recorded as run " in text
    assert verified(clustered) == dict.fromkeys([19, 21, 22, 23, 24], "Eurasian hoopoe")
    history = json.loads(done("list", clustered, "--history", "--format", "json", command=annotate))
    assert {(row["who"], row["source"]) for row in history} == {("ada", "cluster 3")}
    done("undo", clustered, command=annotate)
    assert verified(clustered) == {}


def test_labels_go_through_the_same_checks_as_all_others(clustered: Path) -> None:
    refused(run("label", clustered, 3, "Eurasian hoopo"), "Eurasian hoopoe", "--allow-new")
    refused(run("label", clustered, 3, "Eurasian hoopoe", "--except", "1"), "#1: not in cluster 3")
    refused(run("label", clustered, 8, "Eurasian hoopoe"), "there is no cluster 8")
    refused(run("label", clustered, 3, "Hoopoe", "--family", "Upupidae"), "--family is for a new taxon")
    assert "nothing was written" in done("label", clustered, 3, "Eurasian hoopoe", "--dry-run")
    assert verified(clustered) == {}
    assert "new taxa: Moss owl" in done("label", clustered, 3, "Moss owl", "--allow-new")
    found = json.loads(done("label", clustered, 3, "Moss owl", "--verdict", "negative", "--format", "json"))
    assert found["added"] == 7
    assert verified(clustered) == {}


# -- as a process ------------------------------------------------------------------------------------------


def test_clusters_are_read_and_edited_while_another_writes_and_made_by_one(clustered: Path) -> None:
    with CatalogStore.open(clustered, "write", purpose="birdsearch index"):
        assert sizes(clustered) == {1: 9, 2: 8, 3: 7}
        assert isinstance(run("", clustered, *K3).exception, CatalogLockedError)
        assert run("name", clustered, 1, "x").exit_code == 0
        assert run("undo", clustered).exit_code == 0


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from birdsearch.cli.cluster import cluster\n"
        "for sub in ([], *([name] for name in cluster.commands)):\n"
        "    cluster.main([*sub, '--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'faiss', 'numpy', 'sqlalchemy', 'tqdm', 'sklearn', 'matplotlib', 'PIL'}\n"
        "assert not heavy & set(sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "Commands:" in found.stdout


def test_an_error_is_one_line_and_exit_1(catalog: Path) -> None:
    command = [sys.executable, "-m", "birdsearch", "cluster", "list", "--catalog", str(catalog)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == "Error: nothing is clustered yet; run `birdsearch cluster`\n"
