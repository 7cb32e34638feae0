"""Memory that a process keeps."""

import platform
import subprocess
import sys

import pytest

_CODE = '''
import os
from pathlib import Path
from mbrl_ros.ros import memory
{call}
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = resident()
data = b"x" * 50_000_000
del data
print(resident() - before)
'''


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason="the options are glibc's")
@pytest.mark.parametrize(('call', 'is_kept'), [('', False), ('memory.keep_freed_memory()', True)])
def test_freed_memory_is_kept_for_the_next_message(call, is_kept):
    done = subprocess.run([sys.executable, '-c', _CODE.format(call=call)], capture_output=True, text=True, timeout=60)
    assert (int(done.stdout) > 40_000_000) is is_kept, done
