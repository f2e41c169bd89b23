"""A thousand broken job files: each either plans or is refused with one clear message, and never anything else."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
from helpers_jobs import mutated, mutated_overrides

from jaxviz import models
from jaxviz.errors import JaxvizError
from jaxviz.jobs.job_file import check_job, read_job

pytestmark = pytest.mark.quick

CASES = 1000
PLACE = re.compile(
    r"line \d+|end of document|atlas|defaults|\bout\b|order|top of the file|too deep|is no TOML|64 bits|--set"
)


@pytest.fixture
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of networks are built once, and paths lead nowhere."""
    monkeypatch.setattr(models, "architecture", functools.cache(models.architecture))
    monkeypatch.chdir(tmp_path)


def outcome(seed: int, file: Path) -> JaxvizError | None:
    """What is wrong with a mutated job; None: nothing."""
    file.write_bytes(mutated(seed))
    try:
        check_job(read_job(file, mutated_overrides(seed)))
    except JaxvizError as error:
        return error
    return None


@pytest.mark.usefixtures("_quick")
def test_mutated_job_plans_or_is_refused_with_a_clear_message() -> None:
    file = Path("job.toml")
    errors = []
    for seed in range(CASES):
        try:
            errors.append(outcome(seed, file))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {mutated_overrides(seed)}\n{mutated(seed)[:2000]!r}") from error
    refused = [(seed, str(error)) for seed, error in enumerate(errors) if error is not None]
    assert [seed for seed, error in enumerate(errors) if error is not None and error.exit_code != 2] == []
    assert CASES / 2 < len(refused) < CASES  # both happen
    for seed, message in refused:
        assert message.startswith(("job.toml", "--set")), (seed, message)
        assert PLACE.search(message), (seed, message)
        assert len(message) < 800, (seed, message)
        assert "\n" not in message, (seed, message)
        assert "--" not in message.replace("--set", "").replace("--steps", ""), (seed, message)
