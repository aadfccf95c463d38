"""Every filter of the table is an option, a query parameter, a field of JSON, and sent by the client."""

from __future__ import annotations

import inspect
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from birdsearch.cli.where import build_where, where_options
from birdsearch.client.requests import where_json
from birdsearch.indexer.catalog.filters import FILTERS, Filter, Where
from birdsearch.search.service.where import WhereModel, _where_query


@pytest.mark.parametrize("each", FILTERS, ids=lambda each: each.name)
def test_an_example_means_the_same_as_an_option_and_as_json(each: Filter) -> None:
    found = []

    @click.command()
    @where_options
    def command(exact_places: bool, **conditions: object) -> None:
        found.append(build_where(**conditions))

    name = "--" + each.name.replace("_", "-")
    values = each.example if isinstance(each.example, tuple) else (each.example,)
    arguments = [name] if each.kind == "flag" else [part for value in values for part in (name, str(value))]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    (by_option,) = found
    assert not by_option.is_empty
    assert by_option == Where.from_given({each.name: each.example})
    sent = where_json(by_option)
    assert list(sent) == [each.name]
    assert WhereModel.model_validate(sent).model_dump(exclude_defaults=True) == sent
    assert where_json(Where.from_given(sent)) == sent


def test_names_are_those_of_the_conditions_everywhere() -> None:
    names = [each.name for each in FILTERS]
    assert sorted([*names, "coarse_by"]) == sorted(inspect.signature(Where).parameters)
    assert list(WhereModel.model_fields) == names
    assert list(inspect.signature(_where_query).parameters) == names


def test_the_guide_to_the_service_names_every_filter() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    assert [each.name for each in FILTERS if f"`{each.name}`" not in guide] == []
