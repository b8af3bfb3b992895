// What the steps of a decision and of the allocator cost, in nanoseconds and as multiples of hashing one minted unit id
// in the same run.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>
#include <vector>

#include "bandit/assignment.h"
#include "bandit/best_arm.h"
#include "bandit/slot_table.h"
#include "shared/assignment_cookie.h"
#include "shared/cohort_token.h"
#include "shared/definition_json.h"
#include "shared/key_ring.h"
#include "shared/rotating_filter.h"

namespace {

namespace bandit = experiment::bandit;
namespace shared = experiment::shared;

constexpr std::string_view kUnit = "dHLmYUIJP3rWq7dzrWKyBw";
constexpr const char* kBaseline = "hash a unit id";

void hash_unit(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(bandit::unit_hash(kUnit));
}

bandit::Document one_experiment() {
  bandit::Document document;
  bandit::Experiment experiment;
  experiment.key = experiment.salt = "checkout-button";
  experiment.desired = bandit::Desired::kRunning;
  experiment.traffic = 0.9;
  experiment.policy.baseline = 0.1;
  experiment.variants = {{"control", 1, ""}, {"green", 1, ""}};
  document.experiments.push_back(experiment);
  return document;
}

void decide(benchmark::State& state) {
  bandit::Document document = one_experiment();
  bandit::Rule rule = bandit::make_rule(document, document.experiments[0]);
  bandit::SlotTable table = bandit::contiguous_table(*bandit::quotas_of({1, 1}));
  std::uint64_t hash = bandit::unit_hash(kUnit);
  for (auto _ : state) {
    int arm = -1;
    if (bandit::gate(rule, ++hash) == bandit::Reason::kSplit && !bandit::in_baseline(rule, hash)) {
      arm = table[static_cast<std::size_t>(bandit::arm_slot(rule, hash))];
    }
    benchmark::DoNotOptimize(arm);
  }
}

void mark_in_filter(benchmark::State& state) {
  std::size_t bytes = shared::RotatingFilter::bytes_for(4 << 20);
  std::vector<std::uint64_t> memory(bytes / 8 + 16);
  auto* aligned = reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(memory.data()) + 63) & ~std::uintptr_t{63});
  shared::RotatingFilter filter(aligned, bytes);
  filter.format();
  std::uint64_t key = 1;
  for (auto _ : state) benchmark::DoNotOptimize(filter.test_and_set(key = bandit::draw(7, key)));
}

void move_table(benchmark::State& state) {
  bandit::SlotTable table = bandit::contiguous_table(*bandit::quotas_of({1, 1, 1, 1}));
  auto quotas = *bandit::quotas_of({1, 2, 3, 4});
  for (auto _ : state) benchmark::DoNotOptimize(bandit::moved_table(table, quotas));
}

void probability_best(benchmark::State& state) {
  std::vector<bandit::Beta> arms;
  for (int a = 0; a < state.range(0); ++a) arms.push_back({20.0 + 7 * a * a, 900.0 + 211 * a * a});
  for (auto _ : state) benchmark::DoNotOptimize(bandit::probability_best(arms));
}

shared::KeyRing keys() {
  std::string error;
  return *shared::KeyRing::parse(std::string(64, '7') + "\n", error);
}

shared::CookieRecords records(std::size_t count) {
  shared::CookieRecords records;
  for (std::size_t i = 0; i < count; ++i) {
    records.items[i].experiment = static_cast<std::uint32_t>(i + 1);
    records.items[i].epoch = 1 << 20;
    ++records.count;
  }
  return records;
}

void sign_cookie(benchmark::State& state) {
  auto ring = keys();
  auto cookie = records(static_cast<std::size_t>(state.range(0)));
  char text[shared::kMaxCookieChars];
  for (auto _ : state) benchmark::DoNotOptimize(shared::encode(cookie, ring, text));
}

void verify_cookie(benchmark::State& state) {
  auto ring = keys();
  char text[shared::kMaxCookieChars];
  std::size_t length = shared::encode(records(static_cast<std::size_t>(state.range(0))), ring, text);
  shared::CookieRecords out;
  for (auto _ : state) benchmark::DoNotOptimize(shared::decode({text, length}, ring, out));
}

void write_cohort(benchmark::State& state) {
  shared::CohortPart parts[] = {{"checkout-button", "green"}, {"hero-image", "control"}, {"price", "b"}};
  char out[shared::kMaxCohortToken];
  for (auto _ : state) benchmark::DoNotOptimize(shared::write_cohort_token(parts, 3, out));
}

void compile_definition(benchmark::State& state) {
  shared::DefinitionError error;
  auto parsed = shared::parse_document(
      R"({"schema":1,"experiments":[{"key":"checkout-button","desired":"running","variants":[{"key":"control"},{"key":"green"}],
          "goals":[{"key":"purchase","kind":"conversion"}],"allocation":{"policy":"thompson","goal":"purchase"}}]})",
      error);
  std::string why;
  for (auto _ : state) benchmark::DoNotOptimize(shared::parse_placed(parsed->canonical[0], why));
}

BENCHMARK(hash_unit)->Name(kBaseline);
BENCHMARK(decide)->Name("gates, baseline and arm of one experiment");
BENCHMARK(mark_in_filter)->Name("mark a new key in a 4 MiB filter");
BENCHMARK(write_cohort)->Name("write a cohort token of 3");
BENCHMARK(verify_cookie)->Name("verify and read a cookie")->Arg(5)->Arg(20);
BENCHMARK(sign_cookie)->Name("write and sign a cookie")->Arg(5)->Arg(20);
BENCHMARK(move_table)->Name("move a slot table");
BENCHMARK(probability_best)->Name("P(best), arms")->Arg(3)->Arg(10)->Arg(20);
BENCHMARK(compile_definition)->Name("compile a definition");

class Ratios : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override {
    std::printf("%-44s %12s %10s\n", "step", "ns", "ratio");
    return true;
  }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      double ns = run.GetAdjustedCPUTime();
      if (run.run_name.function_name == kBaseline) baseline_ = ns;
      std::printf("%-44s %12.1f %10.1f\n", run.benchmark_name().c_str(), ns, ns / baseline_);
    }
  }

 private:
  double baseline_ = 1;
};

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  Ratios ratios;
  benchmark::RunSpecifiedBenchmarks(&ratios);
}
