"""`mbrl-ros stop` and `mbrl-ros release`: the latched emergency stop, from any terminal.

The command guards of this machine are asked through their sockets, for which only Python has to start. Where none answers, the
service of the guard is called, which may be on another machine.
"""

import os
import time

from mbrl_ros.errors import ServiceError
from mbrl_ros.ros import stop_socket

_RETRY_S = 1.0
#: Longest wait for guards of this machine.
_ANSWER_S = 1.0


def stop(namespace: str = '/', timeout: float = 15.0) -> None:
    """Press the emergency stop: the arm brakes and stands until it is released.

    --namespace is that of the arm, and --timeout the longest time to wait for its command guard, in seconds.
    """
    print(ask_guards(stop_socket.STOP, namespace) or _call(stop_socket.STOP, namespace, timeout))


def release(namespace: str = '/', timeout: float = 15.0) -> None:
    """Release the emergency stop: the arm may move again.

    --namespace is that of the arm, and --timeout the longest time to wait for its command guard, in seconds.
    """
    print(ask_guards(stop_socket.RELEASE, namespace) or _call(stop_socket.RELEASE, namespace, timeout))


def ask_guards(word: str, namespace: str) -> str:
    """Ask all guards of a namespace through their sockets.

    Args:
        word: `stop` or `release`.
        namespace: Namespace of the arm.

    Returns:
        Their answers; empty if none answers.

    Raises:
        ServiceError: A guard refuses, or is silent while another answers.
    """
    answers = stop_socket.ask(word, os.environ.get('ROS_DOMAIN_ID') or '0', namespace, _ANSWER_S)
    text = '\n'.join(dict.fromkeys(text for _, text in answers))
    if not all(is_done for is_done, _ in answers):
        raise ServiceError(f'{word} failed: {text}')
    return text


def _call(word: str, namespace: str, timeout_s: float) -> str:
    return call_trigger(f'/{namespace.strip("/")}/command_guard/{word}'.replace('//', '/'), timeout_s)


def call_trigger(service: str, timeout_s: float) -> str:
    """Call a `std_srvs/srv/Trigger` until it answers, and return its message.

    A service may receive the request before its connection back to the caller exists; then the answer is lost. Calling again is
    harmless for a service that sets a state, such as `stop`.

    Args:
        service: Name of the service.
        timeout_s: Longest time to wait.

    Raises:
        ServiceError: There is no such service, it does not answer, or it reports a failure.
    """
    from mbrl_ros.launching.executables import ros_environment  # Slow, like all of this way.

    os.environ.update(ros_environment(os.environ))
    import rclpy
    from std_srvs.srv import Trigger

    end_s = time.monotonic() + timeout_s
    with rclpy.init():
        node = rclpy.create_node('mbrl_ros_cli', start_parameter_services=False)
        client = node.create_client(Trigger, service)
        if not client.wait_for_service(timeout_s):
            domain = os.environ.get('ROS_DOMAIN_ID', '0')
            raise ServiceError(f'no service {service} within {timeout_s:g} s in ROS domain {domain}; '
                               'is the command guard running there?')
        while (left_s := end_s - time.monotonic()) > 0.0:
            future = client.call_async(Trigger.Request())
            rclpy.spin_until_future_complete(node, future, timeout_sec=min(_RETRY_S, left_s))
            if future.done():
                break
        else:
            raise ServiceError(f'{service} did not answer within {timeout_s:g} s')
        response = future.result()
    if not response.success:
        raise ServiceError(f'{service} failed: {response.message}')
    return response.message
