"""What the API takes and gives about clusters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from birdsearch.search.service.routes.annotations import Id, Name
from birdsearch.search.service.where import WhereModel

__all__ = [
    "ClusterItem",
    "ClusterPage",
    "ClusterRequest",
    "Clusters",
    "Edit",
    "Edited",
    "LabelEdit",
    "MemberItem",
    "MergeEdit",
    "MoveEdit",
    "NameEdit",
    "RunItem",
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


class RunItem(BaseModel):
    """A state of the clusters: a clustering, or what an edit made of one."""

    run: int
    at: str
    method: str = Field(description="The clustering's method, or `name`, `merge`, `split` or `undo`.")
    based_on: int | None = Field(description="The run that was edited; null for a clustering.")
    clusters: int
    photos: int
    unclustered: int
    current: bool


class Runs(BaseModel):
    """The newest states, the one in force first."""

    runs: list[RunItem]


class ClusterItem(BaseModel):
    """A cluster."""

    id: int
    name: str | None
    photos: int
    events: int
    label: str | None = Field(description="The commonest verified label, else the commonest estimate.")
    label_share: float | None = Field(description="Part of the labelled members that bear it.")
    verified: int = Field(description="Members with a verified label.")
    purity: float | None = Field(
        description="Part of the members verified one by one that bear the commonest of their labels."
    )
    sites: int
    one_site: str | None = Field(
        description="The site that nearly all of it comes from, if that is no chance."
    )
    first: str | None
    last: str | None
    tightness: float = Field(description="Mean strength of the members, 0..1.")
    thumbs: list[int] = Field(description="Photos that show what it is, the most typical first.")


class Clusters(BaseModel):
    """The clusters of a run, the largest first."""

    run: int
    clusters: list[ClusterItem]
    unclustered: int
    purity: float | None
    warnings: list[str]


class MemberItem(BaseModel):
    """A photo of a cluster."""

    photo_id: int
    strength: float = Field(description="How well it fits the cluster, 0..1.")
    odd: bool = Field(
        description="It fits less than half as well as the middle one, or most bear another label."
    )
    label: str | None
    verified: bool
    event: int = Field(description="Smallest photo id of its event.")
    captured_at: str | None
    thumb: str


class ClusterPage(BaseModel):
    """Some photos of a cluster, the strongest first."""

    id: int = Field(description="-1 stands for the photos in no cluster.")
    name: str | None
    photos: list[MemberItem]
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


class Edited(BaseModel):
    """What came of an edit."""

    run: int = Field(description="The run that is in force now.")
    annotation_run: int | None = Field(default=None, description="Takes recorded labels back.")
    recorded: int | None = Field(default=None, description="Labels that were recorded.")
