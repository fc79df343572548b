// SPDX-License-Identifier: Apache-2.0
// A few threads that share the tasks of one kernel call. They sleep between calls, so the robot's other processes keep
// the CPU.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace edge_vlm {

class WorkerPool {
 public:
  // Runs tasks first..last-1 as worker number `worker` (0 is the caller).
  using Run = std::function<void(int worker, int first, int last)>;

  explicit WorkerPool(int threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Split `tasks` into equal runs, one per thread, and return when all are done. `macs` is the multiply-adds of the
  // whole: what is too small to pay for waking threads runs in the caller alone.
  void share(int tasks, int64_t macs, const Run& run);

 private:
  void work(int worker);
  void run_part(int worker, const Run& run) const;

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  const Run* run_ = nullptr;
  int tasks_ = 0;
  int pending_ = 0;
  uint64_t generation_ = 0;
  bool stop_ = false;
};

}  // namespace edge_vlm
