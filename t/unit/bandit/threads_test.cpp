// The domain keeps nothing between calls: threads that ask at once get what one gets alone. `make tsan` runs it under
// ThreadSanitizer.
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "bandit/assignment.h"
#include "bandit/best_arm.h"
#include "bandit/policy.h"
#include "bandit/slot_table.h"

namespace experiment::bandit {
namespace {

struct Answers {
  std::vector<double> best, weights;
  Quotas quotas;
  std::string runs;
  std::vector<std::uint64_t> draws;
  bool operator==(const Answers& o) const {
    return best == o.best && weights == o.weights && quotas == o.quotas && runs == o.runs && draws == o.draws;
  }
};

Answers ask() {
  Answers answers;
  answers.best = probability_best({{41, 400}, {52, 390}, {47, 395}, {1, 1}});
  Policy policy;
  policy.kind = PolicyKind::kThompson;
  policy.floor = 0.01;
  policy.warm_up = {};
  EpochCounts epoch;
  epoch.n = {4000, 4100, 3900};
  epoch.s = {400, 460, 380};
  answers.weights = thompson(policy, false, {1, 1, 1}, {1, 1, 1}, {epoch}, 1e6).weights;
  answers.quotas = *quotas_of(answers.weights);
  answers.runs = encode_runs(moved_table(contiguous_table({3334, 3333, 3333}), answers.quotas));
  for (int unit = 0; unit < 1000; ++unit) {
    answers.draws.push_back(draw(seed_of("salt", "arm"), unit_hash(std::to_string(unit))));
  }
  return answers;
}

TEST(BanditThreads, ManyGetWhatOneGets) {
  std::vector<Answers> answers(4);
  std::vector<std::thread> threads;
  for (auto& place : answers) {
    threads.emplace_back([&place] {
      for (int times = 0; times < 5; ++times) place = ask();
    });
  }
  for (auto& thread : threads) thread.join();
  const Answers alone = ask();
  EXPECT_EQ(alone.weights.size(), 3u);
  for (const auto& each : answers) EXPECT_TRUE(each == alone);
}

}  // namespace
}  // namespace experiment::bandit
