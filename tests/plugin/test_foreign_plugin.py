"""Two plugins that serve one name disconnect each other: ours does not begin."""

import pytest

from gpuslice_plugin.device_plugin.plugin import refuse_foreign
from gpuslice_plugin.device_plugin.resources import Resource
from gpuslice_plugin.errors import ForeignPluginError

SLOTS = Resource("slot", "nvidia.com/gpu", 10)
SERVED = {"nvidia.com/gpu": "8"}


def test_a_name_that_another_plugin_serves_is_refused() -> None:
    with pytest.raises(ForeignPluginError, match="devices such as GPU-1: remove it"):
        refuse_foreign(SLOTS, {"GPU-2", "GPU-1"}, SERVED)


def test_our_own_devices_of_an_earlier_run_are_no_other_plugin() -> None:
    refuse_foreign(SLOTS, {"slot-0-1", "slot-n-7"}, SERVED)
    refuse_foreign(SLOTS, set(), SERVED)


def test_devices_of_a_plugin_that_is_gone_are_no_hindrance() -> None:
    refuse_foreign(SLOTS, {"GPU-1"}, {"nvidia.com/gpu": "0"})
    refuse_foreign(SLOTS, {"GPU-1"}, {})
