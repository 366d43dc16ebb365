"""The results of whole runs, each made once and shared by the tests that name it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.train.bench import Bench, Jobs, make_bench
from tests.train.jobs import MAKERS


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="session")
def jobs(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Jobs]:
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    made = Jobs(bench, MAKERS, wanted)
    yield made
    made.close()


def _job(name: str) -> Any:
    @pytest.fixture(scope="session", name=name)
    def result(jobs: Jobs) -> Any:
        return jobs[name]

    return result


# A test that takes an argument named like a job gets its result: `whole`, `killed`, ...
globals().update({name: _job(name) for name in MAKERS})
