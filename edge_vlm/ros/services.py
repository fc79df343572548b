# SPDX-License-Identifier: Apache-2.0
"""~/describe, ~/enable and ~/reset."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from edge_vlm.live.captioner import CaptionRequest

DESCRIBE_TIMEOUT_S = 10.0
_NAP_S = 0.005


class _Answered:
    """Awaitable in an rclpy executor, which asks again and again while a coroutine waits: each time naps a little,
    so that the worker gets the processor and other callbacks wait no longer than that."""

    def __init__(self, request: CaptionRequest, timeout_s: float) -> None:
        self._request, self._until_s = request, time.monotonic() + timeout_s

    def __await__(self) -> Generator[None, None, None]:
        while not self._request.done.wait(_NAP_S):
            if time.monotonic() > self._until_s:
                self._request.fail(f"no frame within {DESCRIBE_TIMEOUT_S:g} s; is the camera running?")
            else:
                yield


class Services:
    """Each answers with ``success=False`` and the reason where it cannot do what it is asked.

    ``request_caption()`` gives the request to wait for, or the reason why nobody will answer it.
    """

    def __init__(
        self,
        node: Node,
        request_caption: Callable[[], CaptionRequest | str],
        enable: Callable[[bool], str],
        reset: Callable[[], str],
    ) -> None:
        self._request_caption, self._enable, self._reset = request_caption, enable, reset
        # ~/describe waits for a frame: in the node's own group it would keep that very frame out.
        group = ReentrantCallbackGroup()
        node.create_service(Trigger, "~/describe", self._on_describe, callback_group=group)
        node.create_service(SetBool, "~/enable", self._on_enable)
        node.create_service(Trigger, "~/reset", self._on_reset)

    async def _on_describe(self, _, response: Trigger.Response) -> Trigger.Response:
        request = self._request_caption()
        if isinstance(request, str):
            response.success, response.message = False, request
            return response
        await _Answered(request, DESCRIBE_TIMEOUT_S)
        response.success = request.caption is not None
        response.message = request.caption.text if response.success else request.error
        return response

    def _on_enable(self, asked: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        problem = self._enable(asked.data)
        response.success = not problem
        response.message = problem or ("captioning" if asked.data else "frames are left alone until enabled again")
        return response

    def _on_reset(self, _, response: Trigger.Response) -> Trigger.Response:
        problem = self._reset()
        response.success = not problem
        response.message = problem or "all past frames are forgotten; the next is computed whole"
        return response
