// SPDX-License-Identifier: Apache-2.0
// Times of the kernels beside the machine's limits, on one thread: reading memory, and integer products in registers.
// Every round runs the limits and the kernel one after the other, so that a busy neighbour slows all of them.
// Prints one line of JSON per case; compiled and read by bench/ops.py.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

using namespace edge_vlm;

namespace {

double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Aligned {
  explicit Aligned(size_t bytes) : data(static_cast<uint8_t*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64))) {}
  ~Aligned() { std::free(data); }
  Aligned(const Aligned&) = delete;
  uint8_t* data;
};

volatile uint64_t sink;

// Reads `bytes` once; the time in us.
#if defined(__x86_64__)
__attribute__((target("avx2")))
#endif
double read_once(const uint8_t* data, size_t bytes) {
  const double begin = now_us();
  typedef uint64_t Words __attribute__((vector_size(32)));
  Words sum[4] = {};
  for (size_t i = 0; i + 128 <= bytes; i += 128) {
    __builtin_prefetch(data + i + 4096);
    __builtin_prefetch(data + i + 4160);
    for (int part = 0; part < 4; part++) sum[part] ^= *reinterpret_cast<const Words*>(data + i + 32 * part);
  }
  for (const Words& part : sum) sink = sink ^ part[0] ^ part[1] ^ part[2] ^ part[3];
  return now_us() - begin;
}

// Multiply-adds per us of vpdpbusd on registers; 0 where the CPU has none.
#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw,avx512vnni"))) double product_rate() {
  if (!__builtin_cpu_supports("avx512vnni")) return 0;
  constexpr int kLoops = 20000;
  __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(1);
  const double begin = now_us();
  for (int i = 0; i < kLoops; i++)
    asm volatile(
        "vpdpbusd %0, %1, %%zmm16\n vpdpbusd %0, %1, %%zmm17\n vpdpbusd %0, %1, %%zmm18\n vpdpbusd %0, %1, %%zmm19\n"
        "vpdpbusd %0, %1, %%zmm20\n vpdpbusd %0, %1, %%zmm21\n vpdpbusd %0, %1, %%zmm22\n vpdpbusd %0, %1, %%zmm23\n"
        "vpdpbusd %0, %1, %%zmm24\n vpdpbusd %0, %1, %%zmm25\n vpdpbusd %0, %1, %%zmm26\n vpdpbusd %0, %1, %%zmm27\n" ::"v"(a), "v"(b)
        : "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27");
  return kLoops * 12.0 * 64 / (now_us() - begin);
}
#else
double product_rate() { return 0; }
#endif

struct Case {
  WeightFormat format;
  int out, in, rows;
  bool hot;  // the same weights each time, else every call reads others from memory
};

// One case, `rounds` times: prints medians.
void run(const Kernels& kernels, const Case& c, int rounds) {
  const size_t bytes = packed_bytes(c.format, c.out, c.in);
  const size_t copies = c.hot ? 1 : std::max<size_t>(2, (size_t{1} << 30) / bytes);
  Aligned weights(copies * bytes), stream(copies * bytes);
  std::mt19937 random(1);
  for (size_t i = 0; i < bytes; i += 4) {
    const uint32_t value = random() & 0x55555555u;  // ternary codes 0 and 1; int8 and binary: any
    std::memcpy(weights.data + i, &value, 4);
  }
  for (size_t copy = 1; copy < copies; copy++) std::memcpy(weights.data + copy * bytes, weights.data, bytes);
  std::memset(stream.data, 1, copies * bytes);
  const size_t stride = row_stride(c.in);
  std::vector<float> x(static_cast<size_t>(c.rows) * c.in), scale(c.out, 1.0f), y(static_cast<size_t>(c.rows) * c.out);
  for (float& value : x) value = static_cast<float>(random() % 1000) - 500.0f;
  const int panel_rows = c.rows < kManyRows ? 1 : kernels.panel_rows;
  Aligned codes(round_up(c.rows, panel_rows) * stride);
  std::vector<float> row_scale(c.rows);
  std::vector<int32_t> sum(c.rows);
  const QuantizedRows quantized{reinterpret_cast<int8_t*>(codes.data), row_scale.data(), sum.data(), stride, 0, 1, panel_rows};
  const int blocks = static_cast<int>(round_up(c.out, kBlockRows) / kBlockRows);
  std::vector<double> kernel_us, whole_us, read_us, rate;
  for (int round = 0; round < rounds; round++) {
    const size_t at = round % copies * bytes;
    rate.push_back(product_rate());
    read_us.push_back(read_once(stream.data + at, bytes));
    LinearArgs args{};
    args.format = c.format;
    args.rows = c.rows;
    args.in_features = c.in;
    args.out_features = c.out;
    args.weights = weights.data + at;
    args.scale = scale.data();
    args.y = y.data();
    const double begin = now_us();
    kernels.quantize(x.data(), c.rows, c.in, quantized);
    const double quantised = now_us();
    kernels.linear(args, quantized, 0, blocks);
    kernel_us.push_back(now_us() - quantised);
    whole_us.push_back(now_us() - begin);
  }
  const auto median = [](std::vector<double>& v) { std::sort(v.begin(), v.end()); return v[v.size() / 2]; };
  std::printf("{\"isa\": \"%s\", \"format\": %d, \"out\": %d, \"in\": %d, \"rows\": %d, \"hot\": %s, \"kernel_us\": %.3f, "
              "\"whole_us\": %.3f, \"read_us\": %.3f, \"macs_per_us\": %.0f}\n",
              kernels.isa, static_cast<int>(c.format), c.out, c.in, c.rows, c.hot ? "true" : "false", median(kernel_us),
              median(whole_us), median(read_us), median(rate));
  std::fflush(stdout);
}

}  // namespace

// Usage: ops ISA ROUNDS, then cases FORMAT:OUT:IN:ROWS:HOT
int main(int count, char** arguments) {
  const Kernels* kernels = select_kernels(arguments[1]);
  if (kernels == nullptr) return std::fprintf(stderr, "no %s here\n", arguments[1]), 1;
  for (int i = 3; i < count; i++) {
    int format, hot;
    Case c{};
    if (std::sscanf(arguments[i], "%d:%d:%d:%d:%d", &format, &c.out, &c.in, &c.rows, &hot) != 5) return 1;
    c.format = static_cast<WeightFormat>(format);
    c.hot = hot != 0;
    run(*kernels, c, std::atoi(arguments[2]));
  }
  return 0;
}
