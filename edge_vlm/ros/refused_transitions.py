# SPDX-License-Identifier: Apache-2.0
"""A lifecycle request that does not fit the present state is answered with no. rclpy of humble and jazzy raises there,
which would end the process (ros2/rclpy issue 1209)."""

from __future__ import annotations

from collections.abc import Callable


def refusing(callback: Callable, refused: type[Exception], say: Callable[[str], object]) -> Callable:
    """``callback(request, response)`` of the service change_state, which answers where it would raise ``refused``."""

    def answered(request, response):
        try:
            return callback(request, response)
        except refused as error:
            wanted = request.transition.label or request.transition.id
            say(f"no such transition in the present state: {wanted} ({error})")
            response.success = False
            return response

    return answered
