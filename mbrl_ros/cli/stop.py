"""`mbrl-ros stop` and `mbrl-ros release`: the latched emergency stop, from any terminal."""

import os
import time
from typing import Annotated

import typer

from mbrl_ros.errors import ServiceError
from mbrl_ros.launching.executables import ros_environment

_RETRY_S = 1.0

Namespace = Annotated[str, typer.Option(help='Namespace of the arm.')]
Timeout = Annotated[float, typer.Option(min=0.1, help='Longest time to wait for the controller, in seconds.')]


def stop(namespace: Namespace = '/', timeout: Timeout = 15.0) -> None:
    """Press the emergency stop: the arm brakes and stands until it is released."""
    typer.echo(call_trigger(f'{namespace.rstrip("/")}/mpc_controller/stop', timeout))


def release(namespace: Namespace = '/', timeout: Timeout = 15.0) -> None:
    """Release the emergency stop: the arm may move again."""
    typer.echo(call_trigger(f'{namespace.rstrip("/")}/mpc_controller/release', timeout))


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
                               'is the controller running there?')
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
