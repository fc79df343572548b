# SPDX-License-Identifier: Apache-2.0
# The captioner with the demo bundle on ROS 2 jazzy (x86-64 and 64-bit ARM):
#   docker build -t edge_vlm .
#   docker run --rm --net=host edge_vlm                                                            the sample recording
#   docker run --rm --net=host edge_vlm ros2 launch edge_vlm captioner.launch.py image:=/camera/image_raw
FROM ros:jazzy-ros-base

RUN apt-get update && apt-get install -y --no-install-recommends \
        g++ python3-venv python3-colcon-common-extensions python3-opencv python3-numpy python3-yaml python3-rich \
        ros-jazzy-vision-msgs ros-jazzy-diagnostic-updater ros-jazzy-event-camera-msgs \
    && rm -rf /var/lib/apt/lists/*

# LiteRT and three others have no apt package; colcon run from the environment makes the nodes use its interpreter.
RUN python3 -m venv --system-site-packages /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir ai-edge-litert tokenizers rosbags mcap

WORKDIR /ws
COPY . src/edge_vlm
RUN . /opt/ros/jazzy/setup.sh && . /opt/venv/bin/activate \
    && python3 -m colcon build --packages-select edge_vlm \
    && . install/setup.sh && ros2 run edge_vlm doctor

RUN printf '#!/bin/sh\n. /opt/ros/jazzy/setup.sh\n. /ws/install/setup.sh\nexec "$@"\n' > /entrypoint.sh \
    && chmod +x /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "edge_vlm", "demo.launch.py"]
