// SPDX-License-Identifier: Apache-2.0
#include "worker_pool.h"

namespace edge_vlm {

namespace {
constexpr int64_t kWorthSharing = 2'000'000;  // multiply-adds: some 30 us of one thread, a few wake-ups
}

WorkerPool::WorkerPool(int threads) {
  for (int worker = 1; worker < threads; worker++) workers_.emplace_back([this, worker] { work(worker); });
}

WorkerPool::~WorkerPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void WorkerPool::share(int tasks, int64_t macs, const Run& run) {
  if (workers_.empty() || tasks < 2 || macs < kWorthSharing) return run(0, 0, tasks);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    run_ = &run;
    tasks_ = tasks;
    pending_ = static_cast<int>(workers_.size());
    generation_++;
  }
  wake_.notify_all();
  run_part(0, run);
  std::unique_lock<std::mutex> lock(mutex_);
  finished_.wait(lock, [this] { return pending_ == 0; });
}

void WorkerPool::work(int worker) {
  uint64_t seen = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
    if (stop_) return;
    seen = generation_;
    const Run* run = run_;
    lock.unlock();
    run_part(worker, *run);
    lock.lock();
    if (--pending_ == 0) finished_.notify_one();
  }
}

void WorkerPool::run_part(int worker, const Run& run) const {
  const int64_t tasks = tasks_, parts = threads();
  const int first = static_cast<int>(tasks * worker / parts), last = static_cast<int>(tasks * (worker + 1) / parts);
  if (first < last) run(worker, first, last);
}

}  // namespace edge_vlm
