# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: a mailbox between its subscriptions and a worker that runs the pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleState, Node, TransitionCallbackReturn

from edge_vlm.errors import EdgeVlmError
from edge_vlm.live.captioner import CaptionRequest, LiveCaptioner
from edge_vlm.live.mailbox import Mailbox
from edge_vlm.live.observer import LiveObserver
from edge_vlm.live.statistics import LiveStatistics
from edge_vlm.live.worker import Worker
from edge_vlm.observation import Observation
from edge_vlm.ros.declared_parameters import DeclaredParameters
from edge_vlm.ros.diagnostics import ERROR, WARN, event_values, health, values
from edge_vlm.ros.diagnostics_publisher import DiagnosticsPublisher
from edge_vlm.ros.energy import EnergyInput
from edge_vlm.ros.inputs import Inputs, chosen_event_type
from edge_vlm.ros.outputs import Outputs
from edge_vlm.ros.pipeline_opening import REOPENING, PipelineOpener, tested
from edge_vlm.ros.refused_transitions import refusing
from edge_vlm.ros.services import Services
from edge_vlm.runtime.memory_return import MemoryReturn
from edge_vlm.sources.message_types import COMPRESSED_IMAGE, IMAGE
from edge_vlm.step_report import StepReport

IMAGE_TYPES = {"raw": IMAGE, "compressed": COMPRESSED_IMAGE, "none": ""}
_STOP_S = 0.8
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class CaptionerNode(Node):
    """unconfigured -> inactive loads and tries the model, inactive -> active subscribes and starts the worker.

    ``open_pipeline(parameters, open_meter, say, warn)`` gives what makes the pipeline; tests give their own.

    Raises:
        InputError: a parameter at start has the wrong type or value.
    """

    def __init__(self, name: str = "captioner", open_pipeline: Callable | None = None, **node_options) -> None:
        super().__init__(name, **node_options)
        service = getattr(self, "_service_change_state", None)  # rclpy's own, not part of its interface
        if service is not None:
            service.callback = refusing(service.callback, rclpy_implementation.RCLError, self.get_logger().warning)
        self._make_opener = open_pipeline or PipelineOpener
        self._captioner: LiveCaptioner | None = None
        self._inputs: Inputs | None = None
        self._mailbox = Mailbox()
        self._worker: Worker | None = None
        self._outputs: Outputs | None = None
        self._energy: EnergyInput | None = None
        self._enabled = True
        self._failure = self._engine = ""
        self._memory = MemoryReturn()
        self.statistics = LiveStatistics()
        self.parameters = DeclaredParameters(self, lambda: self._captioner is not None, self._on_parameters)
        self._service_answers = Services(self, self._request_caption, self._enable, self._reset)
        image = self.resolve_topic_name("image")
        self._diagnostics = DiagnosticsPublisher(self, self._status, self._check_inputs, image)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """FAILURE, and unconfigured again, where the model cannot be loaded or does not work; the log says why."""
        started_s = time.monotonic()
        try:
            self._configure()
        except Exception as error:  # noqa: BLE001 - whatever it is: the node stays alive and says it
            self._clean_up()
            said = str(error) if isinstance(error, EdgeVlmError) else f"{type(error).__name__}: {error}"
            self._failure = " ".join(said.split())
            self.get_logger().error(f"not configured: {self._failure}")
            self._diagnostics.update()
            return _FAILURE
        self._failure = ""
        took_s = time.monotonic() - started_s
        energy = self._captioner.energy_source
        self.get_logger().info(f"configured in {took_s:.1f} s; energy: {energy}; computing with {self._engine}")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes and starts the worker. FAILURE, and inactive, where it cannot; the log says why."""
        try:
            self._activate()
        except Exception as error:  # noqa: BLE001 - rclpy would swallow it
            self._stop()
            self.get_logger().error(f"not active: {type(error).__name__}: {error}")
            return _FAILURE
        self.get_logger().info(f"active; listening on {', '.join(self._inputs.topics)}")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops listening. A frame in hand is not waited for longer than a second; its result is not published."""
        result = super().on_deactivate(state)
        self._stop()
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Releases the model."""
        result = super().on_cleanup(state)
        self._clean_up()
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._clean_up()
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition went wrong: back to unconfigured."""
        self._clean_up()
        return _SUCCESS

    def stop(self) -> bool:
        """End of the process: False where the worker is still busy with a frame."""
        idle = self._stop()
        self._clean_up()
        return idle

    @property
    def active(self) -> bool:
        return self._worker is not None

    def _configure(self) -> None:
        self.statistics.reset()
        self._energy = EnergyInput(self, self.parameters["energy"])
        log = self.get_logger()
        opener = self._make_opener(self.parameters, self._energy.open_meter, log.info, log.warning)
        self._engine = getattr(opener, "engine", "")
        self._captioner = LiveCaptioner(
            lambda: tested(opener()), lambda: self.get_clock().now().nanoseconds, self._on_step, self.statistics
        )
        self._outputs = Outputs(self)

    def _activate(self) -> None:
        event_type = chosen_event_type(self, self.parameters["event_source"])
        image_type = IMAGE_TYPES[self.parameters["image_transport"]]
        self._mailbox = Mailbox()
        self._captioner.observer = LiveObserver.on_grid(
            self._captioner.grid, image_type or IMAGE, event_type, draws_events=not image_type
        )
        self._captioner.request_reset("activated")
        self._worker = Worker(self._mailbox, self._captioner.process, self._on_worker_failure)
        self._worker.start()
        tick_s = 1.0 / self.parameters["event_frame_rate_hz"]
        self._inputs = Inputs(
            self, self._mailbox, self.statistics, image_type, event_type, tick_s, lambda: self._enabled
        )

    def _stop(self) -> bool:
        idle = True
        if self._inputs is not None:
            self._inputs.destroy()
            self._inputs = None
        if self._worker is not None:
            self.statistics.dropped(self._mailbox.close())
            idle = self._worker.stop(_STOP_S)
            self._worker = None
            if not idle:
                self.get_logger().warning("a frame is still being computed; its result will not be published")
        if self._captioner is not None:
            self._captioner.fail_requests("the node was deactivated")
        return idle

    def _clean_up(self) -> None:
        self._stop()
        if self._captioner is not None:
            self._captioner.close(timeout_s=0.1)
            self._captioner = None
        for part in (self._outputs, self._energy):
            if part is not None:
                part.destroy()
        self._outputs = self._energy = None

    def _on_step(self, observation: Observation, report: StepReport) -> None:
        outputs = self._outputs
        if outputs is not None and self.context.ok():
            outputs.publish(observation, report, self.parameters["publish_unchanged"])

    def _on_worker_failure(self, error: Exception, in_a_row: int) -> None:
        self.statistics.failed(f"{type(error).__name__}: {error}", in_a_row)
        if self.context.ok():
            self.get_logger().error(f"frame failed ({in_a_row} in a row), starting the pipeline again: {error}")

    def _on_parameters(self, changed: set[str]) -> None:
        if self._captioner is not None and changed & REOPENING:
            self._captioner.request_reopen()

    def _request_caption(self) -> CaptionRequest | str:
        if not self.active:
            return "the node is not active"
        if not self._enabled:
            return "captioning is switched off; call ~/enable first"
        return self._captioner.request_caption()

    def _enable(self, enabled: bool) -> str:
        if enabled and not self._enabled and self._captioner is not None:
            self._captioner.request_reset("enabled")
        self._enabled = enabled
        return ""

    def _reset(self) -> str:
        if self._captioner is None:
            return "the node is not configured"
        self._captioner.request_reset("asked for")
        return ""

    def _check_inputs(self) -> None:
        self._memory.sometimes()
        if self._inputs is not None:
            self._inputs.check()

    def _status(self) -> tuple[bytes, str, dict[str, str]]:
        if self._captioner is None:
            return (ERROR, f"not configured: {self._failure}", {}) if self._failure else (WARN, "not configured", {})
        shown = values(self.statistics, self._energy.idle_power_w) | {"engine": self._engine}
        if self._captioner.observer.event_type:
            shown |= event_values(self._captioner.observer.intake)
        if not self.active:
            return WARN, "configured, not active", shown
        if not self._enabled:
            return WARN, "switched off by ~/enable", shown
        stale_after_s = self.parameters["stale_after_s"]
        return *health(self.statistics, time.monotonic(), stale_after_s, self._inputs.problem), shown
