"""Requests and answers of the endpoints of clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from birdsearch.search.clusters.records import Cluster, ClusterMember, ClusterRun
from birdsearch.search.json_records import Record
from birdsearch.search.service.routes.annotations import Id, Name
from birdsearch.search.service.where import WhereModel

__all__ = [
    "ClusterPage",
    "ClusterRequest",
    "Clusters",
    "Edit",
    "Edited",
    "LabelEdit",
    "MergeEdit",
    "MoveEdit",
    "NameEdit",
    "Runs",
    "SplitEdit",
    "UndoEdit",
]

_Ids = Annotated[list[Id], Field(max_length=100_000)]


class ClusterRequest(BaseModel):
    """How to cluster."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{}, {"method": "kmeans", "clusters": 12}]},
    )

    method: Literal["auto", "hdbscan", "graph", "kmeans"] = Field(
        default="auto", description="How; `auto` is the best, `graph` and `kmeans` are faster."
    )
    clusters: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="How many, for `auto` and `kmeans`."
    )
    frames: bool = Field(default=False, description="Cluster every frame by itself, not one photo an event.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="For methods that draw.")
    where: WhereModel | None = Field(default=None, description="Only the photos that meet these conditions.")


@dataclass(frozen=True, slots=True)
class Runs(Record):
    """The newest states of the clusters.

    Attributes:
        runs: The one in force first.
    """

    runs: tuple[ClusterRun, ...]


@dataclass(frozen=True, slots=True)
class Clusters(Record):
    """The clusters of a run.

    Attributes:
        run: The run.
        clusters: The largest first.
        unclustered: Photos in no cluster.
        purity: Of all clusters together, 0..1, or None.
        warnings: For a person.
    """

    run: int
    clusters: tuple[Cluster, ...]
    unclustered: int
    purity: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClusterPage(Record):
    """Some photos of a cluster.

    Attributes:
        id: The cluster; -1 stands for the photos in none.
        name: Its name, or None.
        photos: The strongest first.
        next: Passed as `cursor`, it asks for the photos after these; None at the end.
        total: How many photos it has.
    """

    id: int
    name: str | None
    photos: tuple[ClusterMember, ...]
    next: str | None
    total: int


class _Edit(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NameEdit(_Edit):
    """Give a cluster a name; an empty one takes it away."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"op": "name", "cluster": 1, "name": "by the pond"}]}
    )

    op: Literal["name"]
    cluster: Id
    name: Annotated[str, Field(max_length=200)]


class MergeEdit(_Edit):
    """Put clusters into the first of them."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"op": "merge", "clusters": [1, 2]}]})

    op: Literal["merge"]
    clusters: Annotated[list[Id], Field(min_length=2, max_length=10_000)]


class SplitEdit(_Edit):
    """Cut a cluster in parts by how its photos look."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"op": "split", "cluster": 1, "into": 2}]})

    op: Literal["split"]
    cluster: Id
    into: Annotated[int, Field(ge=2, le=100)] = 2


class MoveEdit(_Edit):
    """Move some photos of a cluster into a new one."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"op": "move", "cluster": 1, "photo_ids": [12]}]}
    )

    op: Literal["move"]
    cluster: Id
    photo_ids: Annotated[list[Id], Field(min_length=1, max_length=100_000)]


class LabelEdit(_Edit):
    """Record a verified label on all photos of a cluster but some."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"op": "label", "cluster": 1, "taxon": "Eurasian hoopoe", "except": [12]}]
        }
    )

    op: Literal["label"]
    cluster: Id
    taxon: Name
    excepted: _Ids = Field(default_factory=list, alias="except", description="Photos that are not labelled.")
    verdict: Literal["positive", "negative", "uncertain"] = "positive"
    who: Name | None = None
    new_taxa: bool = False


class UndoEdit(_Edit):
    """Go back to the clusters before the last run or edit. Labels stay."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"op": "undo"}]})

    op: Literal["undo"]


Edit = Annotated[
    NameEdit | MergeEdit | SplitEdit | MoveEdit | LabelEdit | UndoEdit, Field(discriminator="op")
]


@dataclass(frozen=True, slots=True)
class Edited(Record):
    """What came of an edit.

    Attributes:
        run: The run that is in force now.
        annotation_run: Takes recorded labels back, or None.
        recorded: Labels that were recorded, or None.
    """

    run: int
    annotation_run: int | None = None
    recorded: int | None = None
