# SPDX-License-Identifier: Apache-2.0
"""Which topics of a recording are captioned: found by type, or named by the user."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_vlm.errors import SourceError
from edge_vlm.sources.bag_storage import TopicInfo
from edge_vlm.sources.message_types import EVENT_TYPES, IMAGE_TYPES

NO_EVENTS = "none"
_NOT_COLOUR = re.compile(r"depth|disparity|infra", re.IGNORECASE)


@dataclass(frozen=True)
class ChosenTopics:
    """``said``: one line per choice that the user did not make, to be shown."""

    image: TopicInfo
    events: TopicInfo | None
    said: tuple[str, ...] = ()


def choose_topics(
    path: Path, topics: Mapping[str, TopicInfo], image_topic: str | None = None, event_topic: str | None = None
) -> ChosenTopics:
    """The image topic and, where there is one, the event topic. ``event_topic`` "none" leaves events out.

    Raises:
        SourceError: no such topic, or none of that kind; names the topics that are there.
    """
    said: list[str] = []
    image = _named(path, topics, image_topic, IMAGE_TYPES, "image") or _found(topics, IMAGE_TYPES, "image", said)
    if image is None:
        raise SourceError(
            f"{path} has no image topic with messages; it has {listing(topics)}",
            "record a sensor_msgs/Image or sensor_msgs/CompressedImage topic too"
            + (
                ", or replay with --event-frames 20"
                if any(t.message_type in EVENT_TYPES for t in topics.values())
                else ""
            ),
        )
    if event_topic == NO_EVENTS:
        return ChosenTopics(image, None, tuple(said))
    events = _named(path, topics, event_topic, EVENT_TYPES, "event") or _found(topics, EVENT_TYPES, "event", said)
    return ChosenTopics(image, events, tuple(said))


def choose_event_topic(
    path: Path, topics: Mapping[str, TopicInfo], event_topic: str | None = None
) -> tuple[TopicInfo, list[str]]:
    """The event topic of a recording that is used without images, and what to say about the choice.

    Raises:
        SourceError: no such topic, or none of that kind.
    """
    if event_topic == NO_EVENTS:
        raise SourceError("pictures of events were asked for, and no events", "leave one of the two options out")
    said: list[str] = []
    events = _named(path, topics, event_topic, EVENT_TYPES, "event") or _found(topics, EVENT_TYPES, "event", said)
    if events is None:
        raise SourceError(
            f"{path} has no event topic with messages; it has {listing(topics)}", "record the event camera's topic too"
        )
    return events, said


def listing(topics: Mapping[str, TopicInfo]) -> str:
    """The topics as one line."""
    if not topics:
        return "no topics at all"
    return ", ".join(f"{t.name} ({t.message_type}, {t.message_count})" for _, t in sorted(topics.items()))


def _named(path: Path, topics: Mapping[str, TopicInfo], name: str | None, types: tuple, kind: str) -> TopicInfo | None:
    if name is None:
        return None
    topic = topics.get(name) or topics.get("/" + name)
    if topic is None:
        fitting = ", ".join(sorted(topic.name for topic in topics.values() if topic.message_type in types))
        remedy = f"{kind} topics: {fitting}" if fitting else f"none of these is a {kind} topic"
        raise SourceError(f"{path} has no topic {name}; it has {listing(topics)}", remedy)
    if topic.message_type not in types:
        raise SourceError(
            f"topic {topic.name} of {path} is a {topic.message_type}, no {kind} topic",
            f"name a topic of type {' or '.join(types)}",
        )
    return topic


def _found(topics: Mapping[str, TopicInfo], types: tuple, kind: str, said: list[str]) -> TopicInfo | None:
    """The topic of these types with the most messages; the first by name where several have as many.

    Depth and infrared pictures are only taken where there is nothing else.
    """
    candidates = sorted(
        (topic for topic in topics.values() if topic.message_type in types and topic.message_count),
        key=lambda topic: (bool(_NOT_COLOUR.search(topic.name)), -topic.message_count, topic.name),
    )
    if not candidates:
        return None
    chosen, others = candidates[0], [topic.name for topic in candidates[1:]]
    why = f" (most messages); also there: {', '.join(others)}" if others else ""
    said.append(f"{kind} topic {chosen.name}{why}")
    return chosen
