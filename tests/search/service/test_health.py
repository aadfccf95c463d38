"""Whether a service lives, and what it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.search.service.conftest import RunningServer


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_running_service_says_so(server: RunningServer, path: str) -> None:
    answer = httpx.get(server.url + path)
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok"}
