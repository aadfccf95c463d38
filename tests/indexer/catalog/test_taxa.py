"""The catalog's own taxonomy: the packaged one, and what users add to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from birdsearch.errors import CatalogReadOnlyError, InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import (
    RANKS,
    Clade,
    TaxaSummary,
    add_taxa,
    catalog_taxonomy,
    clade_taxon_ids,
    ensure_taxon,
    extended,
    find_clade,
    new_taxon,
    own_taxa,
    parse_taxa,
    read_taxonomy,
)
from birdsearch.model.taxonomy import Taxon, Taxonomy

HEADER = "common_name,scientific_name,family,order\n"
FULL = "common_name,scientific_name,genus,family,order,alternative_names,sensitive,note\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogStore]:
    with CatalogStore.open(tmp_path / "catalog", "create") as opened:
        yield opened


def common(taxonomy: Taxonomy, name: str) -> str | None:
    taxon = taxonomy.find(name)
    return None if taxon is None else taxon.common_name


def test_a_catalog_without_taxa_has_the_packaged_taxonomy(store: CatalogStore) -> None:
    assert catalog_taxonomy(store) is Taxonomy.load()
    with store.writing() as connection:
        for taxon in list(Taxonomy.load())[:20]:
            ensure_taxon(connection, taxon, add_run(connection))
    assert catalog_taxonomy(store) is Taxonomy.load()
    assert len(own_taxa(store)) == 20


def add_run(connection: sa.Connection) -> int:
    insert = sa.insert(schema.run).values(command="test", version="0", started_at="now")
    return int(connection.execute(insert.returning(schema.run.c.id)).scalar_one())


def test_an_invented_species_is_found_beside_the_known_ones(store: CatalogStore) -> None:
    summary = add_taxa(store, HEADER + "Kaupi zogbird,Zogornis kaupi,Zogidae,Zogiformes\n")
    assert summary == TaxaSummary(run_id=1, added=1, updated=0, unchanged=0)
    taxonomy = catalog_taxonomy(store)
    assert len(taxonomy) == len(Taxonomy.load()) + 1
    for name in ("kaupi-zogbird", "Zogornis kaupi"):
        assert common(taxonomy, name) == "Kaupi zogbird"
    taxon = taxonomy.find("Kaupi zogbird")
    assert taxon is not None
    assert taxonomy.ancestors(taxon) == ("Zogornis kaupi", "Zogornis", "Zogidae", "Zogiformes")
    for known in Taxonomy.load():
        assert taxonomy.find(known.common_name) == known
    again = add_taxa(store, HEADER + "KAUPI ZOGBIRD,Zogornis kaupi,Zogidae,Zogiformes\n")
    assert (again.added, again.unchanged) == (0, 1)


def test_the_catalogs_row_wins_and_keeps_the_other_names(store: CatalogStore) -> None:
    summary = add_taxa(store, HEADER + "Eurasian hoopoe,Upupa epops,Hoopoeidae,Upupiformes\n")
    assert summary.updated == 1
    taxonomy = catalog_taxonomy(store)
    assert len(taxonomy) == len(Taxonomy.load())
    taxon = taxonomy.find("hoopoe")
    assert taxon is not None
    assert (taxon.family, taxon.order) == ("Hoopoeidae", "Upupiformes")
    old = Taxonomy.load().find("hoopoe")
    assert old is not None
    assert (taxon.alternative_names, taxon.sensitive) == (old.alternative_names, old.sensitive)


def test_another_common_name_of_a_known_species_leads_to_it(store: CatalogStore) -> None:
    add_taxa(store, HEADER + "Common hoopoe,Upupa epops,Upupidae,Bucerotiformes\n")
    taxonomy = catalog_taxonomy(store)
    assert len(taxonomy) == len(Taxonomy.load())
    for name in ("Common hoopoe", "Upupa epops", "Eurasian hoopoe"):
        assert common(taxonomy, name) == "Eurasian hoopoe"


def test_alternative_names_of_a_table_are_kept(store: CatalogStore) -> None:
    row = "Kaupi zogbird,Zogornis kaupi,Zogornis,Zogidae,Zogiformes,Kaup's zog;Zogus kaupi,0,\n"
    assert add_taxa(store, FULL + row) == TaxaSummary(1, added=3, updated=0, unchanged=0)
    taxonomy = catalog_taxonomy(store)
    for name in ("kaups zog", "Zogus kaupi", "Zogornis kaupi"):
        assert common(taxonomy, name) == "Kaupi zogbird"


def test_what_of_a_table_is_not_kept_is_said(store: CatalogStore) -> None:
    text = (
        FULL
        + "Zog,,,,,Zoggy,0,\n"
        + "Zig,Zigus zigus,,,,White stork;Ciconia ciconia,1,\n"
        + "Griffon vulture,Gyps fulvus,,Accipitridae,Accipitriformes,,1,\n"
    )
    warnings = add_taxa(store, text).warnings
    assert len(warnings) == 4
    assert "'Zoggy', another name of Zog, is not kept: the taxon has no scientific name" in warnings[0]
    assert "'White stork', another name of Zig, is not kept: it is the name of another taxon" in warnings[1]
    assert "'Ciconia ciconia'" in warnings[2]
    sensitive = Taxonomy.load().find("Griffon vulture")
    assert sensitive is not None
    assert warnings[3].endswith("Zig" if sensitive.sensitive else "Zig, Griffon vulture")
    assert common(catalog_taxonomy(store), "Ciconia ciconia") == "White stork"


def test_a_name_that_several_share_becomes_that_of_the_taxon_that_is_added_by_it(store: CatalogStore) -> None:
    assert common(catalog_taxonomy(store), "Desert warbler") is None
    add_taxa(store, HEADER + "Desert warbler,Curruca eremica,Sylviidae,Passeriformes\n")
    assert common(catalog_taxonomy(store), "Desert warbler") == "Desert warbler"
    assert common(catalog_taxonomy(store), "Asian desert warbler") == "Asian desert warbler"
    # Labels of a packaged taxon do not decide what a shared name means.
    with store.writing() as connection:
        taxon = Taxonomy.load().find("Lesser sand plover")
        assert taxon is None
        for owner in Taxonomy.load().ambiguous["Common Stonechat"]:
            ensure_taxon(connection, owner, add_run(connection))
    assert common(catalog_taxonomy(store), "Common Stonechat") is None


def test_a_common_name_that_is_anothers_scientific_name_is_refused(store: CatalogStore) -> None:
    with pytest.raises(InvalidInputError, match="'Upupa epops' is the scientific name of Eurasian hoopoe"):
        add_taxa(store, HEADER + "Zog,Zogus zog,,\nUpupa epops,Zigus zig,,\n", "mine.csv")
    assert own_taxa(store) == []
    with store.reading() as connection:
        assert connection.execute(sa.select(schema.run)).all() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.csv has no column 'common_name'"),
        (
            "common_name,family,order\nA,B,C\n",
            "has no column 'scientific_name' .needed: .*its columns: common_name, fam",
        ),
        (HEADER + "A,B c,,,more\n", "mine.csv, line 2: it has 5 values and the header 4"),
        (HEADER + "A,B c,,\na,D e,,\n", "line 3: the common name 'a' is used twice"),
        (HEADER + "-,B c,,\n", "line 2: the name '-' is without a letter"),
        (HEADER + "A\x07,B c,,\n", "line 2: the common_name 'A.x07' has characters that do not print"),
        (HEADER + "A,%s,,\n" % ("b" * 201), "line 2: the scientific_name 'b+'... has 201 characters; 200 is"),
        (FULL + "A,B c,,,,,yes,\n", "line 2: sensitive is 'yes'; it is 0 or 1"),
        (HEADER + '"A"x,B c,,\n', "mine.csv is not CSV after line 1"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(store: CatalogStore, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        add_taxa(store, text, "mine.csv")
    assert own_taxa(store) == []


def test_a_table_may_leave_out_what_is_not_needed() -> None:
    (full,) = parse_taxa("\ufeff" + FULL + "Zog,Zogus zog,Zogella,Zogidae,,Ziggy; ;,1,rare\n")
    assert full == Taxon("Zog", "Zogus zog", "Zogella", "Zogidae", "", ("Ziggy",), True, "rare")
    (short,) = parse_taxa("order,extra,common_name,family,scientific_name\n,x, Zog  bird ,Zogidae\n")
    assert short == new_taxon("Zog bird", "", "Zogidae")
    assert parse_taxa(HEADER) == ()


def test_taxa_are_only_added_to_a_catalog_that_is_open_for_writing(store: CatalogStore) -> None:
    with CatalogStore.open(store.path) as reader, pytest.raises(CatalogReadOnlyError):
        add_taxa(reader, HEADER + "Zog,,,\n")


def test_a_new_taxon_takes_its_genus_from_its_scientific_name() -> None:
    assert new_taxon(" Kaupi  zogbird ", "Zogornis kaupi").genus == "Zogornis"
    assert new_taxon("Zog").genus == ""
    for name in ("", " ", "?!", "\udcff"):
        with pytest.raises(InvalidInputError):
            new_taxon(name)


def test_extending_by_nothing_new_gives_the_same_taxonomy() -> None:
    taxonomy = Taxonomy.load()
    assert extended(taxonomy, []) is taxonomy
    assert extended(taxonomy, [new_taxon("Zog"), new_taxon("Zig")]).find("zig") == new_taxon("Zig")


def names(clade: Clade) -> set[str]:
    return {taxon.common_name for taxon in clade.taxa}


def test_a_group_is_found_at_every_rank_and_holds_what_belongs_to_it() -> None:
    taxonomy = Taxonomy.load()
    hoopoe = find_clade(taxonomy, "HOOPOE")
    assert (hoopoe.rank, hoopoe.name, names(hoopoe)) == ("species", "Eurasian hoopoe", {"Eurasian hoopoe"})
    for rank in RANKS[1:]:
        for name in sorted({getattr(taxon, rank) for taxon in taxonomy if getattr(taxon, rank)})[::6]:
            clade = find_clade(taxonomy, name.upper())
            if clade.rank != "species":
                assert (clade.rank, clade.name) == (rank, name)
                assert names(clade) == {t.common_name for t in taxonomy if getattr(t, rank) == name}
    # A form belongs to its species, and not the other way round.
    assert names(find_clade(taxonomy, "Columba livia")) == {"Rock pigeon", "Feral pigeon"}
    assert names(find_clade(taxonomy, "Feral pigeon")) == {"Feral pigeon"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Upupidea", "'Upupidea' is no species, genus, family or order .* did you mean Upupidae"),
        ("Grifon vultur", "did you mean Griffon vulture"),
        (
            "Desert warbler",
            "may be African desert warbler or Asian desert warbler; write the one that is meant",
        ),
        ("zzzzzzzz", "that is known$"),
        ("", "'' is no species"),
    ],
)
def test_a_group_that_is_not_known_is_an_error_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        find_clade(Taxonomy.load(), name)


def test_rows_of_a_group_are_those_of_its_taxa_and_of_their_other_names(store: CatalogStore) -> None:
    add_taxa(store, HEADER + "Zog,Upupa zog,Upupidae,Bucerotiformes\nCommon hoopoe,Upupa epops,,\nZig,,,\n")
    with store.writing() as connection:
        stork = Taxonomy.load().find("White stork")
        hoopoe = Taxonomy.load().find("Eurasian hoopoe")
        assert stork is not None
        assert hoopoe is not None
        run_id = add_run(connection)
        ids = {taxon.common_name: ensure_taxon(connection, taxon, run_id) for taxon in (stork, hoopoe)}
    with store.reading() as connection:
        taxonomy = read_taxonomy(connection)

        def found(name: str) -> list[int]:
            return clade_taxon_ids(connection, taxonomy, find_clade(taxonomy, name))

        assert found("Upupa") == [1, 2, ids["Eurasian hoopoe"]]
        assert found("hoopoe") == [2, ids["Eurasian hoopoe"]]
        assert found("zig") == [3]
        assert found("Ciconiidae") == [ids["White stork"]]
        assert found("Black stork") == []
