// SPDX-License-Identifier: Apache-2.0
// A few threads that share the tasks of one kernel call. Between calls they look out for the next one for some
// microseconds, then sleep. Where other processes hold the CPU, looking out takes it from them and from ourselves: the
// first call that waits for a thread that was sent away ends it for a while (Crowding).
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace edge_vlm {

struct PoolOptions {
  int threads = 1;        // the caller is one of them
  int spin_us = 20;       // how long a thread looks out for work before it sleeps; the gaps within a graph are shorter
  std::vector<int> cpus;  // of the workers but the caller, in turn; empty: any
};

// Whether other processes hold the CPU, judged by the caller's wait for threads that it shared a call with.
class Crowding {
 public:
  // The caller worked on a call for some time, and then waited for the others; all in nanoseconds.
  void note(int64_t now, int64_t worked, int64_t waited);
  bool at(int64_t now) const { return now < until_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> until_{0};
  int64_t length_ = 0;  // of the last period
};

class WorkerPool {
 public:
  // Runs tasks first..last-1 as worker number `worker` (0 is the caller).
  using Run = std::function<void(int worker, int first, int last)>;

  explicit WorkerPool(const PoolOptions& options);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Run all tasks and return. Threads take chunks as they come, the caller too: where other processes hold the CPU it
  // does not wait for a thread that has not begun. `macs` is the multiply-adds of the whole: what is too small to pay
  // for waking threads runs in the caller alone.
  void share(int tasks, int64_t macs, const Run& run);

 private:
  struct Job {
    const Run* run;
    int tasks, chunk;
    std::atomic<int> next{0};
  };

  void work(int worker);
  void join(int worker);
  // Returns when `ready` does, or after spin_us.
  template <typename Ready>
  void spin_until(Ready ready) const;
  static void take_chunks(int worker, Job& job);

  const int spin_us_;
  Crowding crowding_;  // noted by the caller alone
  std::vector<std::thread> workers_;

  // Threads that look out meet in these alone. Each side writes one and then reads the other's: a worker counts itself
  // into active_ and then reads job_, the caller closes job_ and then waits for active_.
  std::atomic<Job*> job_{nullptr};  // open to be joined
  std::atomic<int> active_{0};      // workers that may hold the job
  std::atomic<uint64_t> generation_{0};
  std::atomic<bool> stop_{false};

  // Those that sleep, and so must be woken under the mutex.
  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  std::atomic<int> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
};

}  // namespace edge_vlm
