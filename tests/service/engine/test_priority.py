import os
import sys

import pytest

from export.package import Package
from service.engine import Job
from tests.service.engine.helpers import running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there threads have priorities of their own")


@pytest.mark.parametrize(("nice", "behind"), [(0, 0), (7, 7), (19, 19)])
def test_loops_stand_behind_the_other_threads(transformer_package: Package, nice: int, behind: int) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with running(transformer_package, threads=2, nice=nice) as engine:
        engine.submit(Job([4, 6, 3])).result(30)
        loops = [os.getpriority(os.PRIO_PROCESS, loop.native_id or 0) for loop in engine._loops]
    assert max(loops) == max(own, behind)
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
