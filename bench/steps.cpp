// What the steps of a decision and of the allocator cost, each beside a baseline of the same run.
//
//   steps [--benchmark_filter=REGEX]    nanoseconds, as multiples of the baseline
//   steps --list                        the names of all steps
//   steps --once NAME COUNT             one step so many times and no clock: bench/instructions.py counts it
#include <benchmark/benchmark.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "bandit/assignment.h"
#include "bandit/best_arm.h"
#include "bandit/slot_table.h"
#include "shared/assignment_cookie.h"
#include "shared/cohort_token.h"
#include "shared/definition_json.h"
#include "shared/key_ring.h"
#include "shared/plan_text.h"
#include "shared/rotating_filter.h"
#include "shared/structured_field.h"

namespace {

namespace bandit = experiment::bandit;
namespace shared = experiment::shared;

constexpr std::string_view kUnit = "dHLmYUIJP3rWq7dzrWKyBw";
const std::string kKeyText = std::string(64, '7') + "\n";

struct Step {
  std::string name, baseline;
  std::function<void(long)> times;
};
std::vector<Step> steps;

// The first of those that name the same baseline is that baseline.
template <typename Body>
void add(const std::string& name, const std::string& baseline, Body body) {
  steps.push_back({name, baseline, [body](long count) mutable {
                     while (count-- > 0) body();
                   }});
  benchmark::RegisterBenchmark(name.c_str(), [body](benchmark::State& state) mutable {
    for (auto _ : state) body();
  });
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

void add_decision() {
  const std::string base = "hash a unit id";
  add(base, base, [] { benchmark::DoNotOptimize(bandit::unit_hash(kUnit)); });
  bandit::Document document = one_experiment();
  bandit::Rule rule = bandit::make_rule(document, document.experiments[0]);
  bandit::SlotTable table = bandit::contiguous_table(*bandit::quotas_of({1, 1}));
  add("gates, baseline and arm of one experiment", base, [rule, table, hash = bandit::unit_hash(kUnit)]() mutable {
    int arm = -1;
    if (bandit::gate(rule, ++hash) == bandit::Reason::kSplit && !bandit::in_baseline(rule, hash)) {
      arm = table[static_cast<std::size_t>(bandit::arm_slot(rule, hash))];
    }
    benchmark::DoNotOptimize(arm);
  });
}

void add_filter() {
  const std::string base = "hash a unit id";
  std::size_t bytes = shared::RotatingFilter::bytes_for(4 << 20);
  auto* memory = std::aligned_alloc(64, (bytes + 63) / 64 * 64);  // until the program ends
  shared::RotatingFilter filter(memory, bytes);
  filter.format();
  add("mark a new key in a 4 MiB filter", base, [filter, key = std::uint64_t{1}]() mutable {
    benchmark::DoNotOptimize(filter.test_and_set(key = bandit::draw(7, key)));
  });
}

void add_headers() {
  const std::string base = "hash a unit id";
  static const shared::CohortPart parts[] = {{"checkout-button.green", "checkout-button=green", 1 << 20, "split"},
                                             {"hero-image.control", "hero-image=control", 1 << 20, "split"},
                                             {"price.b", "price=b", 1 << 20, "sticky"}};
  add("write a cohort token of 3", base, [] {
    char out[shared::kMaxCohortToken];
    benchmark::DoNotOptimize(shared::write_cohort_token(parts, 3, out));
  });
  add("write Experiment-Assignments of 3", base, [] {
    char out[512];
    benchmark::DoNotOptimize(shared::write_assignments(parts, 3, out));
  });
  add("read an Experiment-Reward of 2", base, [] {
    shared::DictionaryReader reader("purchase, revenue=19.99;id=\"o-12345\"");
    while (auto member = reader.next()) benchmark::DoNotOptimize(member);
  });
}

shared::KeyRing keys() {
  std::string error;
  return *shared::KeyRing::parse(kKeyText, error);
}

shared::CookieRecords records(int count) {
  shared::CookieRecords records;
  for (int i = 0; i < count; ++i) {
    records.items[static_cast<std::size_t>(i)].experiment = static_cast<std::uint32_t>(i + 1);
    records.items[static_cast<std::size_t>(i)].epoch = 1 << 20;
    ++records.count;
  }
  return records;
}

void add_cookie() {
  const std::string base = "OpenSSL's one-shot HMAC of 88 bytes";  // a cookie of 5 with its purpose
  add(base, base, [data = std::string(88, 'x')] {
    unsigned char out[32];
    benchmark::DoNotOptimize(HMAC(EVP_sha256(), data.data(), 32, reinterpret_cast<const unsigned char*>(data.data()),
                                  data.size(), out, nullptr));
  });
  add("derive the sub-keys of a key ring", base, [] {
    std::string error;
    benchmark::DoNotOptimize(shared::KeyRing::parse(kKeyText, error));
  });
  for (int count : {1, 5, 20}) {
    char written[shared::kMaxCookieChars];
    std::string text(written, shared::encode(records(count), keys(), written));
    std::string of = " a cookie of " + std::to_string(count);
    add("verify" + of, base, [ring = keys(), text] {
      shared::CookieRecords out;
      benchmark::DoNotOptimize(shared::decode(text, ring, out));
    });
    add("sign" + of, base, [ring = keys(), cookie = records(count)] {
      char out[shared::kMaxCookieChars];
      benchmark::DoNotOptimize(shared::encode(cookie, ring, out));
    });
    add("verify and sign" + of, base, [ring = keys(), text] {
      shared::CookieRecords read;
      char out[shared::kMaxCookieChars];
      benchmark::DoNotOptimize(shared::decode(text, ring, read));
      benchmark::DoNotOptimize(shared::encode(read, ring, out));
    });
  }
}

void add_tables() {
  const std::string base = "copy a slot table";
  bandit::SlotTable table = bandit::contiguous_table(*bandit::quotas_of({1, 1, 1, 1}));
  add(base, base, [table] {
    bandit::SlotTable copy = table;
    benchmark::DoNotOptimize(copy.data());
    benchmark::ClobberMemory();
  });
  auto quotas = *bandit::quotas_of({1, 2, 3, 4});
  add("move a slot table", base, [table, quotas] { benchmark::DoNotOptimize(bandit::moved_table(table, quotas)); });
  add("write a slot table as runs", base, [table] { benchmark::DoNotOptimize(bandit::encode_runs(table)); });
  add("read a slot table from runs", base,
      [runs = bandit::encode_runs(table)] { benchmark::DoNotOptimize(bandit::decode_runs(runs, 4)); });
}

std::vector<bandit::Beta> arms(int count, bool uneven) {
  std::vector<bandit::Beta> arms;
  for (int a = 0; a < count; ++a) {
    int scale = uneven ? a * a : 3;
    arms.push_back({20.0 + 7 * scale, 900.0 + 211 * scale});
  }
  return arms;
}

// What most libraries do: the same weights on no two nodes, and three digits.
std::vector<int> by_monte_carlo(const std::vector<bandit::Beta>& arms, int draws) {
  static std::mt19937_64 random(7);
  std::vector<int> wins(arms.size());
  std::vector<double> seen(arms.size());
  for (int d = 0; d < draws; ++d) {
    for (std::size_t a = 0; a < arms.size(); ++a) {
      double x = std::gamma_distribution<double>(arms[a].alpha)(random);
      seen[a] = x / (x + std::gamma_distribution<double>(arms[a].beta)(random));
    }
    ++wins[static_cast<std::size_t>(std::max_element(seen.begin(), seen.end()) - seen.begin())];
  }
  return wins;
}

void add_best_arm() {
  const std::string base = "P(best) of 10 arms by 10,000 draws";
  add(base, base, [ten = arms(10, true)] { benchmark::DoNotOptimize(by_monte_carlo(ten, 10'000)); });
  for (int count : {3, 10, 20}) {
    std::string of = "P(best) of " + std::to_string(count) + " arms, ";
    add(of + "alike", base, [all = arms(count, false)] { benchmark::DoNotOptimize(bandit::probability_best(all)); });
    add(of + "uneven", base, [all = arms(count, true)] { benchmark::DoNotOptimize(bandit::probability_best(all)); });
  }
}

nlohmann::json definition(int number) {
  nlohmann::json experiment = {{"key", "checkout-button-" + std::to_string(number)}, {"desired", "running"}};
  for (const char* key : {"control", "green", "blue", "red"}) {
    experiment["variants"].push_back({{"key", key}, {"payload", {{"color", "#0a0"}, {"label", "Buy now"}}}});
  }
  for (const char* key : {"purchase", "signup", "visit"}) {
    experiment["goals"].push_back({{"key", key}, {"kind", "conversion"}});
  }
  experiment["allocation"] = {{"policy", "thompson"}, {"goal", "purchase"}};
  return experiment;
}

void add_definitions() {
  nlohmann::json document = {{"schema", 1}};
  for (int i = 0; i < 100; ++i) document["experiments"].push_back(definition(i));
  std::string text = document.dump();
  shared::DefinitionError error;
  std::string canonical = shared::parse_document(text, error)->canonical[0];
  shared::ExperimentRuntime state;
  state.arms = {"control", "green", "blue", "red"};
  state.goals = {{"purchase"}, {"signup"}, {"visit"}};
  std::string plan = shared::encode_plan_text(state, canonical);
  const std::string base = "parse an experiment's JSON";
  add(base, base, [canonical] { benchmark::DoNotOptimize(nlohmann::json::parse(canonical)); });
  add("compile an experiment of 4 arms and 3 goals", base, [plan] {
    std::string why;
    benchmark::DoNotOptimize(shared::decode_plan_text(plan, why));
  });
  add("validate a document of 100 experiments", base, [text] {
    shared::DefinitionError fault;
    benchmark::DoNotOptimize(shared::parse_document(text, fault));
  });
}

class Ratios : public benchmark::BenchmarkReporter {
 public:
  Ratios() {
    for (const Step& step : steps) baseline_of_[step.name] = step.baseline;
  }
  bool ReportContext(const Context&) override {
    std::printf("%-46s %12s  %8s  %s\n", "step", "ns", "ratio", "to");
    return true;
  }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      const std::string& name = run.run_name.function_name;
      const std::string& baseline = baseline_of_[name];
      ns_[name] = run.GetAdjustedCPUTime();
      std::printf("%-46s %12.1f", name.c_str(), ns_[name]);
      if (name != baseline && ns_.count(baseline) != 0) {
        std::printf("  %8.3g  %s", ns_[name] / ns_[baseline], baseline.c_str());
      }
      std::printf("\n");
    }
  }

 private:
  std::map<std::string, std::string> baseline_of_;
  std::map<std::string, double> ns_;
};

int once(const std::string& name, long count) {
  for (Step& step : steps) {
    if (step.name != name) continue;
    step.times(count);
    return 0;
  }
  std::fprintf(stderr, "steps: \"%s\" is no step, expected one of --list\n", name.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  for (auto* add_some :
       {add_decision, add_filter, add_headers, add_cookie, add_tables, add_best_arm, add_definitions}) {
    add_some();
  }
  if (argc == 4 && std::string(argv[1]) == "--once") return once(argv[2], std::atol(argv[3]));
  if (argc == 2 && std::string(argv[1]) == "--list") {
    for (const Step& step : steps) std::printf("%s\n", step.name.c_str());
    return 0;
  }
  benchmark::Initialize(&argc, argv);
  Ratios ratios;
  benchmark::RunSpecifiedBenchmarks(&ratios);
}
