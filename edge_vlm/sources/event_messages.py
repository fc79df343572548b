# SPDX-License-Identifier: Apache-2.0
"""Serialised messages of an event topic to its intake."""

from __future__ import annotations

from edge_vlm.errors import InputError
from edge_vlm.sources.bag_storage import RawMessage
from edge_vlm.sources.event_intake import EventIntake
from edge_vlm.sources.event_list import parse_event_list
from edge_vlm.sources.message_types import EVENT_LIST_TYPES, deserialised


def add_event_message(intake: EventIntake, message: RawMessage, message_type: str, ros1: bool) -> None:
    """One message of any of the event types; what cannot be decoded is counted by the intake."""
    try:
        if message_type in EVENT_LIST_TYPES:
            intake.add_list(parse_event_list(message.data, ros1))
            return
        packet = deserialised(message.data, message_type, ros1)
    except InputError as error:
        intake.drop(error)
        return
    intake.add_packet(
        packet.encoding,
        packet.width,
        packet.height,
        packet.seq,
        packet.time_base,
        packet.events,
        packet.is_bigendian,
    )
