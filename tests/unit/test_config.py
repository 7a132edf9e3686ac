"""One Config from defaults, file, environment and flags."""

from pathlib import Path

import pytest

from gpuslice_agent.config import Config, load
from gpuslice_agent.errors import ConfigError
from gpuslice_agent.model import Order

RUN = {"GPUSLICE_RUN_DIR": "/somewhere/run"}


def from_file(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "gpuslice.toml"
    file.write_text(text)
    return load(file, RUN, {}, uid=1000)


def test_flags_go_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gpuslice.toml"
    file.write_text("poll_interval = 2\nidle_interval = 20\nlog_level = 'debug'\n")
    environ = {**RUN, "GPUSLICE_IDLE_INTERVAL": "30", "GPUSLICE_LOG_LEVEL": "error"}
    config = load(file, environ, {"log_level": "warning", "state_dir": None}, uid=1000)
    assert (config.poll_interval, config.idle_interval, config.log_level) == (2, 30, "warning")


def test_a_user_without_a_service_keeps_the_ledger_in_the_run_directory() -> None:
    config = load(None, RUN, {}, uid=1000)
    assert config.run_dir == Path("/somewhere/run")
    assert config.state_dir == Path("/somewhere/run/state")


def test_an_empty_run_directory_of_the_environment_names_none() -> None:
    assert load(None, {"GPUSLICE_RUN_DIR": ""}, {}, uid=0).run_dir == Path("/run/gpuslice")


def test_the_service_keeps_the_ledger_where_it_outlives_the_run_directory() -> None:
    assert load(None, {}, {}, uid=0).state_dir == Path("/var/lib/gpuslice")


def test_a_private_agent_serves_no_metrics() -> None:
    assert load(None, RUN, {"private": True}, uid=1000).metrics_address == ""


def test_words_of_the_file_become_values_of_the_model(tmp_path: Path) -> None:
    assert from_file(tmp_path, "placement = 'spread'").placement is Order.SPREAD


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("poll_interval = 0", "poll_interval = 0 is wrong: give seconds from 0.1 to 3600."),
        ("placement = 'best'", "placement = 'best' is wrong: give binpack, spread or topology."),
        ("overcommit_ratio = 0.5", "overcommit_ratio = 0.5 is wrong: give a number from 1 to 100."),
        ("metrics_address = '9477'", "metrics_address = '9477' is wrong: give HOST:PORT, or"),
        ("run_dir = ''", "run_dir = '' is wrong: give a path."),
        ("private = 'perhaps'", "private = 'perhaps' is wrong: give true or false."),
        ("colour = 'red'", "colour is no setting; the settings are run_dir, state_dir"),
        ("poll_interval == 1", "is no TOML: "),
    ],
)
def test_what_is_wrong_is_named_with_the_file_and_what_is_right(
    tmp_path: Path, line: str, right: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        from_file(tmp_path, line)
    assert right in str(caught.value)
    assert "gpuslice.toml" in str(caught.value)


def test_what_is_wrong_in_the_environment_is_named_as_such() -> None:
    with pytest.raises(ConfigError, match="GPUSLICE_POLL_INTERVAL"):
        load(None, {**RUN, "GPUSLICE_POLL_INTERVAL": "soon"}, {}, uid=1000)


def test_what_is_wrong_on_the_command_line_is_named_by_its_flag() -> None:
    with pytest.raises(ConfigError, match="--poll-interval"):
        load(None, RUN, {"poll_interval": "soon"}, uid=1000)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml", RUN, {}, uid=1000)
