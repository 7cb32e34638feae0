"""A writer that reports each acknowledged message on standard output and never stops by itself.

    python -m support.experience_victim DIRECTORY [MAX_FILE_BYTES]
"""

import resource
import signal
import sys

from mbrl_ros.experience.bags.writer import BagWriter
from support.experience_examples import TOPICS, lockstep_run, serialised


def main() -> None:
    if len(sys.argv) > 2:
        # The limit then shows as a failed write, like a full disk, instead of ending the process.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
    writer = BagWriter(sys.argv[1], TOPICS)
    for value in lockstep_run(2_000):
        writer.write(*serialised(value), value.stamp_ns, value.stamp_ns)
        print(writer.num_messages, flush=True)


if __name__ == '__main__':
    main()
