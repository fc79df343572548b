# SPDX-License-Identifier: Apache-2.0
# make demo   caption the sample recording: installs what the robot needs into .venv, nothing else
# make test   install what the tests need and run them all
# make help   every target
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
OPERATORS := custom_ops/lib/libedge_vlm_ops.so
COMPRESS := $(RUN) -m offline_compress compress out/models/float/model --name edge-vlm-demo
TRAIN_EVENTS := $(RUN) -m offline_compress train-events

.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20

demo: $(VENV)/onboard.stamp $(OPERATORS) ## caption the sample recording with the demo bundle; results in out/demo
	@$(RUN) -m edge_vlm replay bags/sample.mcap --bundle bundles/demo --out out/demo

test: $(VENV)/test.stamp $(OPERATORS) ## run all tests
	$(RUN) -m ruff check .
	$(RUN) -m pytest

test-arm: $(VENV)/test.stamp ## the Arm kernels and the wheel for Arm under emulation; installs a cross compiler and qemu-user where absent
	@tools/arm_tools.sh
	@tools/arm_python.sh $(RUN) build/arm
	$(RUN) -m pytest -rs test/custom_ops -k arm

wheel-arm: $(VENV)/test.stamp ## a wheel for 64-bit Arm with the operator library inside, cross-compiled; in out/wheels
	@tools/arm_tools.sh
	@tools/wheel_arm.sh $(RUN) out/wheels

test-sanitizers: $(VENV)/test.stamp ## the kernels and the thread pool under the address, undefined and thread sanitizers
	EDGE_VLM_SANITIZERS=1 $(RUN) -m pytest -rs test/custom_ops/test_kernels_natively.py test/custom_ops/test_event_counting.py test/custom_ops/test_scene_natively.py -k "not arm"

operators: $(OPERATORS) ## build the operator library

bench-demo: $(VENV)/test.stamp $(OPERATORS) ## print the demo's figures beside their goals; writes out/bench/demo.json
	$(RUN) -m bench.demo --out out/bench/demo.json

bench-compress: $(VENV)/test.stamp $(OPERATORS) ## what compression costs, on the demo model where make models trained it (PHOTOS=DIR PHOTO_MODELS=DIR too); writes out/bench/compress.json
	$(RUN) -m bench.compress $(if $(PHOTOS),--photos $(PHOTOS) --photo-models $(PHOTO_MODELS)) --out out/bench/compress.json

bench-ops: $(VENV)/test.stamp $(OPERATORS) ## the linear kernels beside the machine's limits and other runtimes; writes out/bench/ops.json
	$(RUN) -m bench.ops --out out/bench/ops.json

bench-model: $(VENV)/test.stamp $(OPERATORS) ## a whole SmolVLM beside transformers and llama.cpp (MODEL=FOLDER with config.json, tokenizer.json); writes out/bench/model.json
	$(RUN) -m bench.model $(or $(MODEL),../shared/data/vlm_configs/SmolVLM-256M-Instruct) --out out/bench/model.json

bench-adaptive: $(VENV)/test.stamp $(OPERATORS) ## what gate and router save and cost, beside other ways (VIDEOS=DIR, NMNIST=PATH); writes out/bench/adaptive.json
	$(RUN) -m bench.adaptive $(if $(VIDEOS),--videos $(VIDEOS)) $(if $(NMNIST),--nmnist $(NMNIST)) $(if $(DVS128),--dvs128 $(DVS128)) --out out/bench/adaptive.json

bench-ros: $(VENV)/test.stamp $(OPERATORS) ## what the ROS 2 node costs around the model (source ROS first); writes out/bench/ros.json
	$(RUN) -m bench.ros --out out/bench/ros.json

soak: $(VENV)/test.stamp $(OPERATORS) ## camera and event camera into the node for MINUTES=4: memory, age, losses; writes out/bench/soak.json
	$(RUN) -m bench.soak --minutes $(or $(MINUTES),4) --out out/bench/soak.json

models: out/models/binary/bundle.json out/models/original/bundle.json ## train the demo model and its bundles: about 90 minutes, twice as long without bfloat16 products; resumable

out/models/float/metrics.json: | $(VENV)/test.stamp $(OPERATORS)
	$(RUN) -m offline_compress train-demo --out out/models/float

out/models/original/bundle.json: out/models/float/metrics.json
	$(COMPRESS) --method original --out out/models/original

out/models/ternary/bundle.json: out/models/float/metrics.json
	$(COMPRESS) --method ternary --out out/models/ternary --data-cache out/models/float/cache
	$(RUN) -m offline_compress train-router out/models/ternary

out/models/binary/bundle.json: out/models/float/metrics.json out/models/ternary/bundle.json
	$(COMPRESS) --method binary --out out/models/binary --data-cache out/models/float/cache

events: $(VENV)/test.stamp $(OPERATORS) ## event classifier on rendered gestures (NMNIST=PATH, DVS128=DIR: on these too): train, measure
	$(TRAIN_EVENTS) gestures --out out/models/events-gestures
	$(if $(NMNIST),$(TRAIN_EVENTS) nmnist --data $(NMNIST) --out out/models/events-nmnist)
	$(if $(DVS128),$(TRAIN_EVENTS) dvs128 --data $(DVS128) --out out/models/events-dvs128)
	$(RUN) -m bench.gesture_rows $(if $(NMNIST),--nmnist $(NMNIST)) $(if $(DVS128),--dvs128 $(DVS128))

lock: $(VENV)/test.stamp ## pin the dependencies of pyproject.toml again
	$(RUN) -m pip install --quiet uv
	$(RUN) tools/lock.py

clean: ## remove what was built, trained and measured here
	rm -rf out build custom_ops/lib .pytest_cache *.egg-info

$(VENV)/onboard.stamp: requirements/onboard.lock tools/venv.sh
	@tools/venv.sh $(PYTHON) requirements/onboard.lock
	@touch $@

$(VENV)/test.stamp: $(VENV)/onboard.stamp requirements/test.lock
	@tools/venv.sh $(PYTHON) requirements/test.lock
	@touch $@

$(OPERATORS): $(VENV)/onboard.stamp $(wildcard custom_ops/src/*/*) custom_ops/build.py
	@$(RUN) -m custom_ops.build

.PHONY: help demo test test-arm wheel-arm test-sanitizers operators bench-demo bench-compress bench-ops bench-model bench-adaptive bench-ros soak models events lock clean
