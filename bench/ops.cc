// SPDX-License-Identifier: Apache-2.0
// Times of the kernels beside the machine's limits, on one thread: reading memory, and integer products in registers.
// Every round runs the limits and the kernel one after the other, so that a busy neighbour slows all of them.
// Prints one line of JSON per case; compiled and read by bench/op_limits.py.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels.h"
#include "limits.h"

using namespace edge_vlm;
using namespace limits;

namespace {

struct Aligned {
  explicit Aligned(size_t bytes) : data(static_cast<uint8_t*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64))) {}
  ~Aligned() { std::free(data); }
  Aligned(const Aligned&) = delete;
  uint8_t* data;
};

struct Case {
  WeightFormat format;
  int out, in, rows;
  bool hot;   // the same weights each time, else every call reads others from memory
  int group;  // inputs that share a scale; 0: none
};

// The lower quartile: a busy neighbour slows limits and kernels alike, but not in the same rounds.
double typical(std::vector<double>& v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 4];
}

// Weights in as many copies as it takes to read them from memory, each followed by its group scales.
struct Weights {
  explicit Weights(const Case& c)
      : bytes(packed_bytes(c.format, c.out, c.in)),
        scales(c.group == 0 ? 0 : packed_groups(c.out, group_count(c.in, c.group)) * 2),
        step(round_up(bytes + scales, 64)),
        copies(c.hot ? 1 : std::max<size_t>(2, (size_t{1} << 30) / step)),
        memory(copies * step) {
    std::mt19937 random(1);
    for (size_t i = 0; i < bytes; i += 4) {
      const uint32_t value = random() & 0x55555555u;  // ternary codes 0 and 1; of all others: any
      std::memcpy(memory.data + i, &value, 4);
    }
    for (size_t i = 0; i < scales; i += 2) std::memcpy(memory.data + bytes + i, "\x00\x3c", 2);  // 1.0
    for (size_t copy = 1; copy < copies; copy++) std::memcpy(memory.data + copy * step, memory.data, bytes + scales);
  }

  size_t bytes, scales, step, copies;
  Aligned memory;
};

// One case, `rounds` times, small ones more often: prints lower quartiles.
void run(const Kernels& kernels, const Case& c, int rounds) {
  const Weights weights(c);
  Aligned stream(weights.copies * weights.step);
  std::memset(stream.data, 1, weights.copies * weights.step);
  const size_t stride = row_stride(c.in);
  const int panel_rows = c.rows < kManyRows ? 1 : c.group == 0 ? kernels.panel_rows : kernels.group_panel_rows;
  const int groups = group_count(c.in, c.group);
  std::mt19937 random(2);
  std::vector<float> x(static_cast<size_t>(c.rows) * c.in), scale(c.out, 1.0f), y(static_cast<size_t>(c.rows) * c.out);
  for (float& value : x) value = static_cast<float>(random() % 1000) - 500.0f;
  Aligned codes(round_up(c.rows, panel_rows) * stride);
  std::vector<float> row_scale(c.rows);
  std::vector<int32_t> sum(round_up(c.rows, panel_rows) * groups);
  const QuantizedRows quantized{reinterpret_cast<int8_t*>(codes.data), row_scale.data(), sum.data(), stride, c.group, groups,
                                panel_rows};
  const int blocks = static_cast<int>(round_up(c.out, kBlockRows) / kBlockRows);
  std::vector<double> kernel_us, whole_us, rate, read_us[kReadings];
  const double macs = static_cast<double>(c.out) * c.in * c.rows;
  rounds = static_cast<int>(rounds * std::min(8.0, 1 + 4e6 / macs));
  for (int round = 0; round < rounds; round++) {
    rate.push_back(product_rate());
    for (int reading = 0; !c.hot && reading < kReadings; reading++) {  // else it would empty the caches
      const size_t at = (static_cast<size_t>(round) * kReadings + reading) % weights.copies * weights.step;
      read_us[reading].push_back(read_once(reading, stream.data + at, weights.bytes + weights.scales));
    }
    const uint8_t* data = weights.memory.data + round % weights.copies * weights.step;
    LinearArgs args{};
    args.format = c.format;
    args.rows = c.rows;
    args.in_features = c.in;
    args.out_features = c.out;
    args.weights = data;
    args.scale = scale.data();
    args.y = y.data();
    args.streams = !c.hot;
    args.group_size = c.group;
    args.group_scale = c.group == 0 ? nullptr : reinterpret_cast<const uint16_t*>(data + weights.bytes);
    const double begin = now_us();
    kernels.quantize(x.data(), c.rows, c.in, quantized);
    const double quantised = now_us();
    kernels.linear(args, quantized, 0, blocks);
    kernel_us.push_back(now_us() - quantised);
    whole_us.push_back(now_us() - begin);
  }
  double fastest = c.hot ? 0 : typical(read_us[0]);
  for (std::vector<double>& times : read_us) fastest = c.hot ? 0 : std::min(fastest, typical(times));
  std::printf("{\"isa\": \"%s\", \"kernel_us\": %.3f, \"whole_us\": %.3f, \"read_us\": %.3f, \"macs_per_us\": %.0f}\n",
              kernels.isa, typical(kernel_us), typical(whole_us), fastest, typical(rate));
  std::fflush(stdout);
}

}  // namespace

// Usage: ops ISA ROUNDS, then cases FORMAT:OUT:IN:ROWS:HOT:GROUP
int main(int count, char** arguments) {
  const Kernels* kernels = select_kernels(arguments[1]);
  if (kernels == nullptr) return std::fprintf(stderr, "no %s here\n", arguments[1]), 1;
  for (int i = 3; i < count; i++) {
    int format, hot;
    Case c{};
    if (std::sscanf(arguments[i], "%d:%d:%d:%d:%d:%d", &format, &c.out, &c.in, &c.rows, &hot, &c.group) != 6) return 1;
    c.format = static_cast<WeightFormat>(format);
    c.hot = hot != 0;
    run(*kernels, c, std::atoi(arguments[2]));
  }
  return 0;
}
