// What experiments take of the zone and of a worker, and how long anybody's event loop is held up while definitions
// change: the leader and a worker in one process, without nginx, over a store in memory.
//
//   scale [experiments|zones|swaps]
//
// Times are of the CPU: on a busy machine the clock on the wall tells of the neighbours.
#include <malloc.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "ngx_module/plan.h"
#include "shared/conductor.h"
#include "shared/zone_sync.h"

namespace {

namespace bandit = experiment::bandit;
namespace ngx = experiment::ngx;
namespace shared = experiment::shared;

constexpr std::uint64_t kFilterBytes = 4 << 20;
constexpr double kSliceMs = 0.5;  // as in ngx_module/slice.h
constexpr int kOpenEpochs = 65;   // the most with epochs of 10 s or more
constexpr int kSwaps = 20;

double cpu_ms() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

template <typename F>
double cost_ms(F&& f) {
  double begin = cpu_ms();
  f();
  return cpu_ms() - begin;
}

bool everyone_lives(std::uint32_t) {
  return true;
}

class ZoneMemory {
 public:
  ZoneMemory(std::uint64_t bytes, std::uint32_t stripes) : bytes_(bytes) {
    memory_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) std::abort();
    shared::ZoneOptions options;
    options.stripes = stripes;
    options.filter_bytes = kFilterBytes;
    options.instance = "AAAAAAAAAAAAAAAAAAAAAA";
    zone = *shared::Zone::format(memory_, bytes, options);
    first_ = zone.header().arena.next;
  }
  ~ZoneMemory() { ::munmap(memory_, bytes_); }
  ZoneMemory(const ZoneMemory&) = delete;
  ZoneMemory& operator=(const ZoneMemory&) = delete;
  std::uint64_t in_use() const { return zone.arena().in_use(); }
  // All that was ever handed out, free lists included.
  std::uint64_t touched() const { return zone.header().arena.next - first_; }

  shared::Zone zone;

 private:
  std::uint64_t bytes_, first_ = 0;
  void* memory_;
};

class MemoryStore : public shared::Store {
 public:
  shared::StoredDocument document;
  shared::Runtime runtime;

  shared::Answer exchange(const shared::Exchange& wants) override {
    shared::Answer answer;
    if (wants.runtime) {
      runtime = *wants.runtime;
      runtime.version = wants.known_runtime + 1;
      answer.runtime_written = true;
    } else if (runtime.version != wants.known_runtime) {
      answer.runtime = runtime;
    }
    if (document.version != wants.known_document) answer.document = document;
    answer.own = wants.counters;
    answer.counters_written = wants.counters.has_value();
    return answer;
  }
  std::optional<shared::StoredDocument> last_good() override { return std::nullopt; }
};

struct Content {
  int experiments = 1000;
  int adaptive = 50;
  char prefix = 'a';
  char payload = 'x';  // what it is made of
  std::size_t payload_bytes = 170;
};

// Experiments of 4 arms and 3 goals; a thousand of them take a megabyte.
std::string definitions(const Content& content) {
  std::string text = R"({"schema":1,"experiments":[)";
  for (int i = 0; i < content.experiments; ++i) {
    text += (i == 0 ? R"({"key":")" : R"(,{"key":")") + std::string(1, content.prefix) + std::to_string(i) +
            R"(","desired":"running","variants":[)";
    for (int arm = 0; arm < 4; ++arm) {
      text += (arm == 0 ? R"({"key":"v)" : R"(,{"key":"v)") + std::to_string(arm) + R"(","payload":{"text":")" +
              std::string(content.payload_bytes, content.payload) + "\"}}";
    }
    text += R"(],"goals":[{"key":"purchase","kind":"conversion"},{"key":"signup","kind":"conversion"},)"
            R"({"key":"revenue","kind":"value","max":500}])";
    if (i < content.adaptive) text += R"(,"allocation":{"policy":"thompson","goal":"purchase"})";
    text += "}";
  }
  return text + "]}";
}

std::unique_ptr<ngx::MainConf> configuration() {
  auto conf = std::make_unique<ngx::MainConf>();
  conf->units.push_back(std::make_unique<ngx::Unit>());
  conf->units[0]->name = "visitor";
  for (std::size_t i = 0; i < 20; ++i) {  // locations
    auto placement = std::make_unique<ngx::Placement>();
    placement->number = i;
    if (i == 0) {
      placement->patterns = {"all"};
    } else {
      placement->patterns = {"a" + std::to_string(i) + "*", "b" + std::to_string(i), "hero-*"};
    }
    conf->placements.push_back(std::move(placement));
    conf->variable_keys.push_back("a" + std::to_string(i));
  }
  return conf;
}

// What held up an event loop, in milliseconds.
struct Stalls {
  int slices = 0;
  double sum = 0, longest = 0;
  void add(double ms) {
    ++slices;
    sum += ms;
    longest = std::max(longest, ms);
  }
};

struct Swap {
  double off_loop = 0;          // in the thread pool
  Stalls leader, tidy;          // in the zone
  double copy = 0;              // of the image by a worker
  Stalls compile;               // by a worker, all but the last slice
  double finish = 0, free = 0;  // its last slice; the end of the plan before
  std::size_t plan_bytes = 0;
};

class Node {
 public:
  Node(std::uint64_t bytes, std::uint32_t stripes)
      : memory(bytes, stripes),
        store_(new MemoryStore),
        mind_(std::unique_ptr<shared::Store>(store_), "", [random = std::mt19937_64(1)]() mutable { return random(); }),
        sync_(memory.zone),
        conf_(configuration()),
        worker_(memory.zone.ensure_worker(1)) {}

  void publish(const Content& content) { store_->document = {store_->document.version + 1, definitions(content)}; }

  // Gives `adaptive` experiments `epochs` more epochs, each with a table of its own.
  void learn(int adaptive, int epochs) {
    shared::Runtime runtime = mind_.runtime();
    for (const auto& experiment : mind_.document().document.experiments) {
      if (adaptive-- <= 0) break;
      shared::ExperimentRuntime& state = runtime.experiments[experiment.key];
      for (int i = 0; i < epochs; ++i) {
        std::vector<double> weights;
        for (std::size_t arm = 0; arm < state.arms.size(); ++arm)
          weights.push_back(1 + static_cast<double>(random_() % 1000));
        shared::start_epoch(state, weights, now_ms_, random_());
      }
    }
    runtime.version = store_->runtime.version + 1;
    store_->runtime = std::move(runtime);
  }

  Swap swap() {
    Swap swap;
    shared::ZoneUpdate update;
    swap.off_loop = cost_ms([&] {
      step(250, true);
      update = shared::ZoneSync::prepare(mind_);
    });
    double end = 0;
    auto enough = [&] { return cpu_ms() >= end; };
    auto slice = [&](Stalls& stalls, auto&& f) {
      end = cpu_ms() + kSliceMs;
      stalls.add(cost_ms(f));
    };
    slice(swap.leader, [&] {
      sync_.begin(mind_, std::move(update));
      sync_.more(mind_, enough);
    });
    while (sync_.under_way()) slice(swap.leader, [&] { sync_.more(mind_, enough); });
    lines = sync_.take_lines();
    compile(swap);
    for (int i = 0; i < 40; ++i) {
      step(5000, true);
      slice(swap.tidy, [&] { sync_.tidy(mind_, now_ms_, everyone_lives, enough); });
    }
    return swap;
  }

  ZoneMemory memory;
  std::vector<std::string> lines;

 private:
  void step(std::int64_t ms, bool flush) {
    shared::StepInput input;
    input.now_ms = now_ms_ += ms;
    input.flush = flush;
    if (flush) input.totals = memory.zone.read_counters();
    for (const auto& message : mind_.step(input)) {
      if (message.severity == shared::Severity::kError) std::printf("%s\n", message.text.c_str());
    }
  }

  void compile(Swap& swap) {
    if (plan_ && plan_->version == memory.zone.header().plan_version.load()) return;
    std::optional<std::vector<std::byte>> image;
    swap.copy = cost_ms([&] { image = memory.zone.copy_image(); });
    std::size_t before = ::mallinfo2().uordblks - image->size();
    auto builder = std::make_unique<ngx::PlanBuilder>(*conf_, memory.zone, 0, std::move(*image), plan_.get());
    image.reset();
    for (bool done = false; !done;) {
      double end = cpu_ms() + kSliceMs;
      double ms = cost_ms([&] { done = builder->step([&] { return cpu_ms() >= end; }); });
      if (done) {
        swap.finish = ms;
      } else {
        swap.compile.add(ms);
      }
    }
    auto plan = builder->take();
    builder.reset();
    swap.plan_bytes = ::mallinfo2().uordblks - before;
    swap.free = cost_ms([&] { plan_.reset(); });
    plan_ = std::move(plan);
    worker_->plan_version = plan_->version;
  }

  MemoryStore* store_;
  shared::Conductor mind_;
  shared::ZoneSync sync_;
  std::unique_ptr<ngx::MainConf> conf_;
  shared::WorkerSlot* worker_;
  std::unique_ptr<ngx::Plan> plan_;
  std::mt19937_64 random_{7};
  std::int64_t now_ms_ = 1'700'000'000'000;
};

// --- zone ---

std::uint64_t experiment_bytes(int arms, int goals, std::uint32_t stripes, int epochs) {
  ZoneMemory memory(32 << 20, stripes);
  shared::Zone& zone = memory.zone;
  auto& block = *zone.at<shared::ExperimentBlock>(zone.add_block("hero", 1));
  zone.ensure_rows(block, arms);
  std::vector<shared::GoalRecord> records(static_cast<std::size_t>(goals));
  records.back().kind = bandit::GoalKind::kValue;
  shared::ExperimentRuntime state;
  state.arms.resize(static_cast<std::size_t>(arms));
  state.goals = records;
  std::vector<double> weights(static_cast<std::size_t>(arms), 1);
  for (int e = 0; e < epochs; ++e) {
    weights[0] = 1 + e;
    shared::start_epoch(state, weights, e, static_cast<std::uint64_t>(e));
    auto table = bandit::decode_runs(state.runs, arms);
    zone.ensure_epoch(block, state.epochs.back(), records, &*table);
  }
  return memory.in_use();
}

void print_experiments() {
  std::printf(
      "Zone bytes of one experiment; the last goal is of kind value. The table of a fixed one is shared with all\n"
      "that are split alike and stands apart; an adaptive one has two of its own and %d epochs that take rewards.\n\n",
      kOpenEpochs + 1);
  std::printf("%5s %5s  %11s %11s %11s  %13s\n", "arms", "goals", "1 stripe", "2 stripes", "8 stripes", "adaptive, 2");
  ZoneMemory empty(8 << 20, 1);
  std::uint64_t before = empty.in_use();
  empty.zone.arena().allocate(sizeof(shared::TableBlock));
  std::uint64_t table = empty.in_use() - before;
  for (int arms : {2, 4, 10, 20}) {
    for (int goals : {1, 3, 7}) {
      std::printf("%5d %5d ", arms, goals);
      for (std::uint32_t stripes : {1, 2, 8}) std::printf(" %11lu", experiment_bytes(arms, goals, stripes, 1) - table);
      std::printf("  %13lu\n", experiment_bytes(arms, goals, 2, kOpenEpochs + 1));
    }
  }
  std::printf("\nA table takes %lu bytes, the zone's fixed parts %lu beside the filter.\n\n", table,
              shared::Zone::least_bytes({}) - 64 * 1024);
}

void print_zones() {
  std::printf(
      "Zone in use beside the filter, 4 arms and 3 goals, one of twenty adaptive with %d epochs that take rewards.\n"
      "\"swapped\": the most that was in use when every definition had changed. \"replaced\": when others took their "
      "place.\n\n",
      kOpenEpochs + 1);
  std::printf("%11s %8s  %10s %10s %10s\n", "experiments", "workers", "MiB", "swapped", "replaced");
  std::uint64_t fixed = shared::Zone::least_bytes({}) - 64 * 1024;
  auto mib = [&](std::uint64_t bytes) { return static_cast<double>(bytes + fixed) / 1048576; };
  for (int count : {10, 100, 1000}) {
    for (std::uint32_t workers : {2, 8, 32}) {
      Node node(256 << 20, std::min<std::uint32_t>(workers, shared::kMaxStripes));
      Content content{count, std::max(1, count / 20)};
      node.publish(content);
      node.swap();
      node.learn(content.adaptive, kOpenEpochs);
      node.swap();
      std::uint64_t held = node.memory.in_use();
      content.payload = 'y';
      node.publish(content);
      node.swap();
      std::uint64_t swapped = node.memory.touched();
      content.prefix = 'b';
      node.publish(content);
      node.swap();
      std::printf("%11d %8u  %10.2f %10.2f %10.2f\n", count, workers, mib(held), mib(swapped),
                  mib(node.memory.touched()));
    }
  }
  Node node((16 << 20) + shared::RotatingFilter::bytes_for(kFilterBytes), 2);
  node.publish({});
  node.swap();
  node.learn(50, kOpenEpochs);
  node.swap();
  node.publish({1000, 50, 'a', 'y'});
  node.swap();
  std::printf(
      "\n1000 experiments, 50 of them adaptive, 2 workers, 16 MiB beside the filter, every definition changed: %s.\n\n",
      node.lines.empty() ? "all fit" : node.lines[0].c_str());
}

// --- time ---

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void print_row(const char* what, const std::vector<Swap>& swaps, double (*of)(const Swap&)) {
  std::vector<double> values;
  for (const Swap& swap : swaps) values.push_back(of(swap));
  std::printf("  %-58s %8.2f %8.2f\n", what, median(values), *std::max_element(values.begin(), values.end()));
}

void print_swaps(const char* what, Content content, void (*change)(Node&, Content&, int)) {
  Node node(512 << 20, 2);
  node.publish(content);
  node.swap();
  std::vector<Swap> swaps;
  for (int i = 0; i < kSwaps; ++i) {
    change(node, content, i);
    swaps.push_back(node.swap());
  }
  std::printf("%s: %d experiments, %.2f MB of definitions\n", what, content.experiments,
              static_cast<double>(definitions(content).size()) / 1e6);
  print_row("thread pool: read, validate, reconcile, make the image", swaps, [](const Swap& s) { return s.off_loop; });
  print_row("leader: the longest slice in the zone", swaps, [](const Swap& s) { return s.leader.longest; });
  print_row("leader: all slices", swaps, [](const Swap& s) { return s.leader.sum; });
  print_row("leader: the longest slice of tidying up", swaps, [](const Swap& s) { return s.tidy.longest; });
  if (swaps.back().plan_bytes != 0) {
    print_row("worker: copy the image", swaps, [](const Swap& s) { return s.copy; });
    print_row("worker: the longest slice that compiles", swaps, [](const Swap& s) { return s.compile.longest; });
    print_row("worker: all that compile", swaps, [](const Swap& s) { return s.compile.sum; });
    print_row("worker: the last slice, goals and placements", swaps, [](const Swap& s) { return s.finish; });
    print_row("worker: free the plan before", swaps, [](const Swap& s) { return s.free; });
    print_row("worker: memory of the plan, MB", swaps,
              [](const Swap& s) { return static_cast<double>(s.plan_bytes) / 1e6; });
  }
  std::printf("\n");
}

void print_times() {
  std::printf("Milliseconds of CPU in one piece, %d times each%*s %8s %8s\n", kSwaps, 11, "", "median", "worst");
  auto texts = [](Node& node, Content& content, int i) {
    content.payload = static_cast<char>('a' + i);
    node.publish(content);
  };
  auto others = [](Node& node, Content& content, int i) {
    content.prefix = i % 2 == 0 ? 'b' : 'a';
    node.publish(content);
  };
  auto tables = [](Node& node, Content& content, int) {
    node.learn(content.experiments, 1);
    (void)content;
  };
  print_swaps("every text changes", {}, texts);
  print_swaps("others take the place of all", {}, others);
  print_swaps("every experiment is adaptive and moves to a table of its own", {1000, 1000}, tables);
  print_swaps("every text changes, of the largest document", {5000, 250, 'a', 'x', 110}, texts);
}

}  // namespace

int main(int argc, char** argv) {
  std::string_view only = argc > 1 ? argv[1] : "";
  if (only.empty() || only == "experiments") print_experiments();
  if (only.empty() || only == "zones") print_zones();
  if (only.empty() || only == "swaps") print_times();
}
