// SPDX-License-Identifier: Apache-2.0
// The machine's limits as a contender: limits.h for ctypes. Compiled by limit_matrix.py.
#include "../limits.h"

extern "C" int reading_count() { return limits::kReadings; }

// Microseconds that it takes to read `bytes` bytes.
extern "C" double read_us(int reading, const uint8_t* data, size_t bytes) { return limits::read_once(reading, data, bytes); }

// Multiply-adds per microsecond of AVX-512 VNNI; 0 where the CPU has none.
extern "C" double product_rate() { return limits::product_rate(); }
