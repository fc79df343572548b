# SPDX-License-Identifier: Apache-2.0
"""The message types that recordings hold and rosbags does not know, and names of types as old recorders wrote them."""

from __future__ import annotations

from functools import cache

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from edge_vlm.errors import InputError

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
STRING = "std_msgs/msg/String"
EVENT_PACKET = "event_camera_msgs/msg/EventPacket"
IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)
PACKET_TYPES = (EVENT_PACKET, "event_array_msgs/msg/EventArray")
EVENT_LIST_TYPES = ("dvs_msgs/msg/EventArray", "prophesee_event_msgs/msg/EventArray")
EVENT_TYPES = PACKET_TYPES + EVENT_LIST_TYPES

# event_camera_msgs/EventPacket, Apache-2.0; event_array_msgs/EventArray, its former name, has the same fields
_PACKET_FIELDS = """\
std_msgs/Header header
uint32 height
uint32 width
uint64 seq
uint64 time_base
string encoding
bool is_bigendian
uint8[] events
"""


@cache
def typestore(ros1: bool = False) -> Typestore:
    """Definitions of images and event packets, as ROS 2 or ROS 1 serialises them (the header differs)."""
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
    for name in PACKET_TYPES:
        store.register(get_types_from_msg(_PACKET_FIELDS, name))
    return store


def deserialised(data: bytes, message_type: str, ros1: bool):
    """One message of a type in this module as an object with the message's fields.

    Raises:
        InputError: the bytes are not such a message.
    """
    store = typestore(ros1)
    try:
        return store.deserialize_ros1(data, message_type) if ros1 else store.deserialize_cdr(data, message_type)
    except Exception as error:  # noqa: BLE001 - generated code over damaged bytes raises whatever it meets
        raise InputError(
            f"message cannot be deserialised: {len(data)} bytes as {message_type} ({error})",
            "the message is damaged, or of another definition: record the topic again",
        ) from error


def normalised(type_name: str) -> str:
    """``sensor_msgs/Image`` (ROS 1, early ROS 2) as ``sensor_msgs/msg/Image``."""
    package, _, name = type_name.replace("::", "/").partition("/")
    return type_name if not name or name.startswith("msg/") else f"{package}/msg/{name}"
