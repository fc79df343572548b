// SPDX-License-Identifier: Apache-2.0
// Packets of event cameras to events per pixel, without an event ever being stored. Plain arithmetic on bytes: knows
// neither TFLite nor the kernels. What each encoding means is said in edge_vlm/sources, whose NumPy decoders are the
// reference that tests hold this against.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

namespace edge_vlm {

enum Encoding : int32_t { kEvt3, kLibcaer, kLibcaerCmp, kMono, kEventListCdr, kEventListRos1, kEncodings };

constexpr int32_t kNotSeen = -1;
constexpr int32_t kLargestSide = 1 << 15;  // of a sensor

// One way over one packet. custom_ops/event_counting.py has the same fields.
struct EventPass {
  int32_t struct_bytes, encoding, width, height, big_endian;
  int32_t step;  // added to a pixel for each of its events; -1 takes back what an equal pass has added
  int32_t y, base_x, base_polarity, time_high, time_low;  // EVT3: what one packet leaves to the next, or kNotSeen
  int64_t wraps;                                          // EVT3: of the 24-bit time
  int64_t time_base;                                      // of the message, in the encoding's unit
  // What the way found; first_us and last_us are of events on the sensor, 0 where there are none.
  int64_t count, outside, unsynchronised, unknown_words, first_us, last_us;
};

// Where events go: into the tally of the pass, and with kAdd to their pixels in `counts` too. Tallied here and written
// by `finish`, so that the compiler can keep it in registers.
template <bool kAdd>
class Sink {
 public:
  Sink(const EventPass& pass, int32_t* counts)
      : counts_(counts), width_(pass.width), height_(pass.height), step_(pass.step) {}

  int64_t width() const { return width_; }
  int32_t step() const { return step_; }
  bool has_row(int64_t y) const { return y >= 0 && y < height_; }
  int32_t* row(int64_t y) const { return kAdd ? counts_ + y * width_ : nullptr; }  // its first pixel, where has_row

  // `time` in any unit that is the same for all events of a pass.
  void one(int64_t x, int64_t y, int64_t time) {
    if (x < width_ && y < height_) {
      if (kAdd) counts_[y * width_ + x] += step_;
      tally(1, 0, time);
    } else {
      outside_++;
    }
  }
  void tally(int64_t inside, int64_t outside, int64_t time) {
    outside_ += outside;
    count_ += inside;
    if (inside == 0) return;
    first_ = std::min(first_, time);
    last_ = std::max(last_, time);
  }

  // `units` of time are a microsecond.
  void finish(EventPass& pass, int64_t units) const {
    pass.count += count_;
    pass.outside += outside_;
    if (count_ == 0) return;
    pass.first_us = floor_of(first_, units);
    pass.last_us = floor_of(last_, units);
  }

 private:
  static int64_t floor_of(int64_t time, int64_t units) { return time / units - (time % units < 0); }

  int32_t* const counts_;
  const int64_t width_, height_;
  const int32_t step_;
  int64_t count_ = 0, outside_ = 0;
  int64_t first_ = std::numeric_limits<int64_t>::max(), last_ = std::numeric_limits<int64_t>::min();
};

// A number of the stream, wherever it lies: packets need not be aligned.
template <typename T>
T load(const uint8_t* at, bool swap) {
  T value;
  std::memcpy(&value, at, sizeof value);
  if (!swap) return value;
  if (sizeof value == 2) return static_cast<T>(__builtin_bswap16(static_cast<uint16_t>(value)));
  if (sizeof value == 4) return static_cast<T>(__builtin_bswap32(static_cast<uint32_t>(value)));
  return static_cast<T>(__builtin_bswap64(static_cast<uint64_t>(value)));
}

constexpr bool kHostIsBigEndian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;

// Each goes over all of a packet; `counts` (height * width) may be null. Registers of the stream move on in `pass`.
void pass_over_evt3(EventPass& pass, const uint8_t* data, int64_t bytes, int32_t* counts);
void pass_over_libcaer_cmp(EventPass& pass, const uint8_t* data, int64_t bytes, int32_t* counts);
void pass_over_records(EventPass& pass, const uint8_t* data, int64_t bytes, int32_t* counts);

}  // namespace edge_vlm
