// SPDX-License-Identifier: Apache-2.0
// Encodings in which every event is a record of the same size: libcaer, mono, and the events of dvs_msgs/EventArray.
#include "event_pass.h"

namespace edge_vlm {

namespace {

struct Event {
  int64_t x, y, time;
};

// Each reads record `index`, whose time is in kUnits a microsecond; the first one may lie otherwise than those behind it.

struct Libcaer {
  static constexpr int64_t kBytes = 8, kLast = 8, kUnits = 1;
  explicit Libcaer(const EventPass& pass) : base_us_(pass.time_base / 1000) {}

  Event operator()(const uint8_t* data, int64_t index) {
    const uint32_t word = load<uint32_t>(data + 8 * index, kHostIsBigEndian);
    const int32_t low_us = load<int32_t>(data + 8 * index + 4, kHostIsBigEndian);
    overflows_ += index > 0 && low_us < last_us_;
    last_us_ = low_us;
    return {word >> 17 & 0x7FFF, word >> 2 & 0x7FFF, base_us_ + low_us + overflows_ * (int64_t{1} << 31)};
  }

 private:
  const int64_t base_us_;
  int64_t overflows_ = 0;
  int32_t last_us_ = 0;
};

struct Mono {
  static constexpr int64_t kBytes = 8, kLast = 8, kUnits = 1000;
  explicit Mono(const EventPass& pass) : base_ns_(pass.time_base), swap_((pass.big_endian != 0) != kHostIsBigEndian) {}

  Event operator()(const uint8_t* data, int64_t index) {
    const uint64_t word = load<uint64_t>(data + 8 * index, swap_);
    const int64_t time = base_ns_ + static_cast<int64_t>(word & 0xFFFFFFFF);
    return {static_cast<int64_t>(word >> 32 & 0xFFFF), static_cast<int64_t>(word >> 48 & 0x7FF), time};
  }

 private:
  const int64_t base_ns_;
  const bool swap_;
};

// x, y, seconds, nanoseconds, polarity. In CDR each event but the first has two bytes of padding before its time, and
// begins two bytes earlier than a multiple of its size.
struct ListCdr {
  static constexpr int64_t kBytes = 16, kLast = 13, kUnits = 1000;
  explicit ListCdr(const EventPass& pass) : swap_((pass.big_endian != 0) != kHostIsBigEndian) {}

  Event operator()(const uint8_t* data, int64_t index) {
    const uint8_t* const at = index == 0 ? data : data + kBytes * index - 2;
    const uint8_t* const time = index == 0 ? at + 4 : at + 6;
    const int64_t sec = load<int32_t>(time, swap_), nanosec = load<uint32_t>(time + 4, swap_);
    return {load<uint16_t>(at, swap_), load<uint16_t>(at + 2, swap_), sec * 1000000000 + nanosec};
  }

 private:
  const bool swap_;
};

struct ListRos1 {
  static constexpr int64_t kBytes = 13, kLast = 13, kUnits = 1000;
  explicit ListRos1(const EventPass&) {}

  Event operator()(const uint8_t* data, int64_t index) {
    const uint8_t* const at = data + kBytes * index;
    const int64_t sec = load<uint32_t>(at + 4, kHostIsBigEndian), nanosec = load<uint32_t>(at + 8, kHostIsBigEndian);
    return {load<uint16_t>(at, kHostIsBigEndian), load<uint16_t>(at + 2, kHostIsBigEndian), sec * 1000000000 + nanosec};
  }
};

template <bool kAdd, class Format>
void read(EventPass& pass, const uint8_t* data, int64_t bytes, int32_t* counts) {
  const int64_t records = bytes < Format::kLast ? 0 : (bytes - Format::kLast) / Format::kBytes + 1;
  Sink<kAdd> sink(pass, counts);
  Format format(pass);
  for (int64_t index = 0; index < records; index++) {
    const Event event = format(data, index);
    sink.one(event.x, event.y, event.time);
  }
  sink.finish(pass, Format::kUnits);
}

template <class Format>
void read(EventPass& pass, const uint8_t* data, int64_t bytes, int32_t* counts) {
  if (counts == nullptr) read<false, Format>(pass, data, bytes, counts);
  else read<true, Format>(pass, data, bytes, counts);
}

}  // namespace

void pass_over_records(EventPass& pass, const uint8_t* data, int64_t bytes, int32_t* counts) {
  switch (pass.encoding) {
    case kLibcaer: return read<Libcaer>(pass, data, bytes, counts);
    case kMono: return read<Mono>(pass, data, bytes, counts);
    case kEventListCdr: return read<ListCdr>(pass, data, bytes, counts);
    case kEventListRos1: return read<ListRos1>(pass, data, bytes, counts);
    default: return;
  }
}

}  // namespace edge_vlm
