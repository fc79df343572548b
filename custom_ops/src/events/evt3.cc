// SPDX-License-Identifier: Apache-2.0
// EVT 3.0. Most words are ADDR_X, and row and time hold for a whole run of them: they are looked up once a run.
#include "event_pass.h"

namespace edge_vlm {

namespace {

enum Word { kAddrY = 0, kAddrX = 2, kVectBaseX = 3, kVect12 = 4, kVect8 = 5, kTimeLow = 6, kTimeHigh = 8 };

// A time a few steps behind the one before has not wrapped: sensors do that.
constexpr int32_t kHighTimeJitter = 10;
constexpr int64_t kLargestX = 0x7FF;

template <bool kAdd, bool kSwap>
class Stream {
 public:
  Stream(EventPass& pass, const uint8_t* data, int64_t words, int32_t* counts)
      : data_(data), words_(words), sink_(pass, counts), y_(pass.y), base_polarity_(pass.base_polarity),
        time_high_(pass.time_high), time_low_(pass.time_low), base_x_(pass.base_x), wraps_(pass.wraps) {
    follow();
  }

  void read(EventPass& pass) {
    for (int64_t i = 0; i < words_;) {
      const uint16_t word = at(i);
      const int32_t value = word & 0xFFF;
      switch (word >> 12) {
        case kAddrX: i = singles(i); continue;
        case kAddrY: y_ = value & kLargestX; follow(); break;
        case kVectBaseX: base_x_ = value & kLargestX; base_polarity_ = value >> 11; break;
        case kVect12: vector<12>(value); break;
        case kVect8: vector<8>(value & 0xFF); break;
        case kTimeLow: time_low(value); break;
        case kTimeHigh: time_high(value); break;
        case 7: case 10: case 14: case 15: break;  // continued words, triggers, others
        default: unknown_words_++;
      }
      i++;
    }
    leave(pass);
  }

 private:
  uint16_t at(int64_t i) const { return load<uint16_t>(data_ + 2 * i, kSwap != kHostIsBigEndian); }

  void leave(EventPass& pass) const {
    pass.y = y_;
    pass.base_x = static_cast<int32_t>(std::min(base_x_, kLargestX));
    pass.base_polarity = base_polarity_;
    pass.time_high = time_high_;
    pass.time_low = time_low_;
    pass.wraps = wraps_;
    pass.unsynchronised += unsynchronised_;
    pass.unknown_words += unknown_words_;
    sink_.finish(pass, 1);
  }

  // The run of ADDR_X that begins at word i; returns the word behind it.
  int64_t singles(int64_t i) {
    const int64_t begin = i, width = sink_.width();
    if (row_ == Row::kOn) {
      int32_t* const row = sink_.row(y_);
      const int32_t step = sink_.step();
      int64_t inside = 0;
      uint16_t word = at(i);
      do {
        const int64_t x = word & kLargestX;
        if (x >= width) continue;
        inside++;
        if (kAdd) row[x] += step;
      } while (++i < words_ && (word = at(i)) >> 12 == kAddrX);
      sink_.tally(inside, i - begin - inside, t_us_);
    } else {
      while (++i < words_ && at(i) >> 12 == kAddrX) continue;
      nowhere(i - begin);
    }
    return i;
  }

  template <int kPixels>
  void vector(int32_t bits) {
    if (base_x_ == kNotSeen) return void(unsynchronised_ += __builtin_popcount(bits));
    if (row_ != Row::kOn) {
      nowhere(__builtin_popcount(bits));
    } else {
      const int64_t room = std::clamp<int64_t>(sink_.width() - base_x_, 0, kPixels);
      if (kAdd && room == kPixels) add(sink_.row(y_) + base_x_, bits, kPixels);
      else if (kAdd && room > 0) add(sink_.row(y_) + base_x_, bits, static_cast<int>(room));
      const int32_t inside = bits & ((1 << room) - 1);
      sink_.tally(__builtin_popcount(inside), __builtin_popcount(bits ^ inside), t_us_);
    }
    base_x_ += kPixels;
  }

  void add(int32_t* pixels, int32_t bits, int count) const {
    for (int k = 0; k < count; k++) pixels[k] += bits & 1 << k ? sink_.step() : 0;
  }

  // Events of a row that is off the sensor, or before the first time and row.
  void nowhere(int64_t events) {
    if (row_ == Row::kOff) sink_.tally(0, events, 0);
    else unsynchronised_ += events;
  }

  void time_low(int32_t value) {
    if (time_high_ == kNotSeen) return;  // says nothing before the first high time
    time_low_ = value;
    follow();
  }

  void time_high(int32_t value) {
    if (time_high_ != kNotSeen && value - time_high_ < -kHighTimeJitter) wraps_++;
    time_high_ = value;
    follow();
  }

  void follow() {
    if (time_high_ == kNotSeen || time_low_ == kNotSeen || y_ == kNotSeen) {
      row_ = Row::kUnknown;
      return;
    }
    row_ = sink_.has_row(y_) ? Row::kOn : Row::kOff;
    t_us_ = wraps_ * (1 << 24) + (static_cast<int64_t>(time_high_) << 12) + time_low_;
  }

  enum class Row { kUnknown, kOff, kOn };

  const uint8_t* const data_;
  const int64_t words_;
  Sink<kAdd> sink_;
  int32_t y_, base_polarity_, time_high_, time_low_;
  int64_t base_x_;  // grows past what a word can hold
  int64_t wraps_, t_us_ = 0, unsynchronised_ = 0, unknown_words_ = 0;
  Row row_ = Row::kUnknown;
};

template <bool kAdd>
void read(EventPass& pass, const uint8_t* data, int64_t words, int32_t* counts) {
  if (pass.big_endian) Stream<kAdd, true>(pass, data, words, counts).read(pass);
  else Stream<kAdd, false>(pass, data, words, counts).read(pass);
}

}  // namespace

void pass_over_evt3(EventPass& pass, const uint8_t* data, int64_t bytes, int32_t* counts) {
  if (counts == nullptr) read<false>(pass, data, bytes / 2, counts);
  else read<true>(pass, data, bytes / 2, counts);
}

}  // namespace edge_vlm
