"""Every run has a ROS domain of its own, whoever else is on the machine."""

import os
import socket
import sys
import tempfile

import pytest

from mbrl_ros.launching.domain import OwnDomain


@pytest.fixture(autouse=True)
def shared_folder(monkeypatch):
    # Not `tmp_path`, which other users may not enter.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        monkeypatch.setattr(tempfile, 'tempdir', folder)
        yield


def test_no_two_holders_have_the_same_domain_and_a_released_one_is_free_again():
    first, second = OwnDomain(), OwnDomain()
    assert first.number != second.number
    first.release()
    third = OwnDomain()
    assert third.number == first.number
    for domain in (second, third):
        domain.release()


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs /proc/net/udp')
def test_a_domain_in_which_somebody_is_left_is_not_taken():
    free = OwnDomain()
    free.release()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as left:
        left.bind(('127.0.0.1', 7400 + 250 * free.number + 11))
        other = OwnDomain()
        assert other.number != free.number
        other.release()


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can become another user')
def test_another_user_can_hold_domains_too():
    OwnDomain().release()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            OwnDomain()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
