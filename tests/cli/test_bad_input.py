"""What is written wrongly is refused with one sentence, before anything is started."""

import pytest

from .conftest import Cli

WRONG = [
    (("run", "--mem", "0", "--", "true"), "a share without memory"),
    (("run", "--mem", "0GiB", "--", "true"), "a share without memory"),
    (("run", "--mem", "8GB", "--", "true"), "'8GB' is not a size"),
    (("run", "--mem", "-1", "--", "true"), "'-1' is not a size"),
    (("run", "--mem", "lots", "--", "true"), "'lots' is not a size"),
    (("run", "--cores", "101", "--", "true"), "'101' is not a whole percentage"),
    (("run", "--cores", "-1", "--", "true"), "'-1' is not a whole percentage"),
    (("run", "--cores", "30.5", "--", "true"), "'30.5' is not a whole percentage"),
    (("run", "--cores", "30", "--policy", "soft", "--", "true"), "'soft' is not one of"),
    (("run", "--cores", "30", "--priority", "9", "--", "true"), "'9' is not one of"),
    (("run", "--cores", "30", "--gpu", "first", "--", "true"), "neither an index nor a UUID"),
    (("run", "--cores", "30", "--gpu", "0,", "--", "true"), "neither an index nor a UUID"),
    (("run", "--cores", "30", "--gpu", "1,1", "--", "true"), "names a GPU twice"),
    (("run", "--", "true"), "Say how much"),
    (("run", "--cores", "0", "--", "true"), "Say how much"),
    (("run", "--cores", "30"), "Nothing to run"),
    (("run", "--speed", "30", "--", "true"), "--speed"),
    (("sim", "--profile", "t4"), "Nothing to run"),
    (("sim", "--", "true"), "Name a node"),
    (("sim", "--profile", "abacus", "--", "true"), "no profile 'abacus', only t4, "),
    (("sim", "--profile", "t4", "--gpus", "0", "--", "true"), "--gpus"),
    (("status", "--watch", "--interval", "0"), "--interval"),
    (("agent", "--poll-interval", "often"), "--poll-interval"),
    (("agent", "--config", "/nonexistent"), "/nonexistent"),
    (("rnu",), "rnu"),
]


@pytest.mark.parametrize(("arguments", "sentence"), WRONG, ids=lambda value: str(value))
def test_a_wrong_call_gets_one_sentence_and_status_2(
    bare: Cli, arguments: tuple[str, ...], sentence: str
) -> None:
    done = bare(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("gpuslice: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_program_that_is_not_there_is_status_127_as_in_a_shell(bare: Cli) -> None:
    done = bare("run", "--cores", "30", "--", "no-such-program")
    assert (done.returncode, done.stderr) == (
        127,
        "gpuslice: no-such-program: command not found.\n",
    )


def test_a_file_that_is_no_program_is_status_126_as_in_a_shell(bare: Cli) -> None:
    done = bare("run", "--cores", "30", "--", "/etc/passwd")
    assert (done.returncode, done.stderr) == (126, "gpuslice: /etc/passwd: is not executable.\n")


def test_sizes_are_read_as_docker_and_systemd_read_them() -> None:
    from gpuslice_agent.cli import parameters

    gib = 2**30
    for text in ("8GiB", "8G", "8g", "8Gi", "8192MiB", "8192M", str(8 * gib), "8 GiB", "8388608K"):
        assert parameters.size(text) == 8 * gib
    assert parameters.size("1.5GiB") == 3 * gib // 2
