#include "shared/kills.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "shared/checked_json.h"

namespace experiment::shared {
namespace {

constexpr std::int64_t kKeepLiftedS = std::int64_t{400} * 86400;
constexpr std::size_t kMostLifted = 50;  // of one variant

auto said(const Kill& kill) {
  return std::tie(kill.variant, kill.reason, kill.by, kill.at_s);
}

auto said(const Lift& lift) {
  return std::tie(lift.at_s, lift.by, lift.reason);
}

bool same(const Kill& a, const Kill& b) {
  if (a.id != b.id || said(a) != said(b) || a.stands() != b.stands()) return false;
  return a.stands() || said(*a.lifted) == said(*b.lifted);
}

// Of two copies of one kill. They differ in nothing but being lifted, and where they do all the same, everybody must
// choose alike.
Kill join_kill(const Kill& a, const Kill& b) {
  Kill joined = said(b) < said(a) ? b : a;
  joined.lifted = a.lifted;
  if (b.lifted && (!a.lifted || said(*b.lifted) < said(*a.lifted))) joined.lifted = b.lifted;
  return joined;
}

using ByIdentity = std::map<std::uint64_t, Kill>;

void add_all(ByIdentity& into, const std::vector<Kill>& kills) {
  for (const Kill& kill : kills) {
    auto [place, fresh] = into.try_emplace(identity_of(kill), kill);
    if (!fresh) place->second = join_kill(place->second, kill);
  }
}

ByIdentity by_identity(const std::vector<Kill>& kills) {
  ByIdentity out;
  add_all(out, kills);
  return out;
}

bool same(const ByIdentity& a, const ByIdentity& b) {
  const auto equal = [](const auto& x, const auto& y) { return x.first == y.first && same(x.second, y.second); };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), equal);
}

}  // namespace

std::uint64_t identity_of(const Kill& kill) {
  if (kill.id != 0) return kill.id;
  std::string text;
  for (const std::string& part : {kill.variant, kill.reason, kill.by, std::to_string(kill.at_s)}) {
    text.append(part).push_back('\0');
  }
  return hash_text(text);
}

bool any_stands(const std::vector<Kill>& kills) noexcept {
  return std::any_of(kills.begin(), kills.end(), [](const Kill& kill) { return kill.stands(); });
}

const Kill* find_standing(const std::vector<Kill>& kills, std::string_view variant) noexcept {
  const auto found = std::find_if(kills.begin(), kills.end(),
                                  [&](const Kill& kill) { return kill.stands() && kill.variant == variant; });
  return found == kills.end() ? nullptr : &*found;
}

std::vector<Kill> lift_kills(std::vector<Kill>& kills, std::string_view variant, const Lift& lift) {
  std::vector<Kill> lifted;
  for (Kill& kill : kills) {
    if (!kill.stands() || kill.variant != variant) continue;
    lifted.push_back(kill);
    kill.lifted = lift;
  }
  return lifted;
}

bool unite_kills(std::vector<Kill>& into, const std::vector<Kill>& from) {
  const ByIdentity before = by_identity(into);
  ByIdentity united = before;
  add_all(united, from);
  into.clear();
  for (const auto& [identity, kill] : united) into.push_back(kill);
  std::stable_sort(into.begin(), into.end(), [](const Kill& a, const Kill& b) { return a.at_s < b.at_s; });
  return !same(before, united);
}

bool unite_kills(Runtime& into, const Runtime& from) {
  bool changed = unite_kills(into.kill_all, from.kill_all);
  for (const auto& [key, experiment] : from.experiments) {
    if (!experiment.kills.empty()) changed = unite_kills(into.experiments[key].kills, experiment.kills) || changed;
  }
  return changed;
}

bool same_kills(const std::vector<Kill>& a, const std::vector<Kill>& b) {
  return same(by_identity(a), by_identity(b));
}

void prune_lifted(std::vector<Kill>& kills, std::int64_t now_s) {
  std::vector<const Kill*> latest_first;
  for (const Kill& kill : kills) {
    if (!kill.stands()) latest_first.push_back(&kill);
  }
  std::stable_sort(latest_first.begin(), latest_first.end(),
                   [](const Kill* a, const Kill* b) { return a->lifted->at_s > b->lifted->at_s; });
  std::map<std::string_view, std::size_t> kept;
  std::set<std::uint64_t> forgotten;
  for (const Kill* kill : latest_first) {
    const bool old = kill->lifted->at_s < now_s - kKeepLiftedS;
    if (old || ++kept[kill->variant] > kMostLifted) forgotten.insert(identity_of(*kill));
  }
  const auto is_forgotten = [&](const Kill& kill) { return !kill.stands() && forgotten.count(identity_of(kill)) != 0; };
  kills.erase(std::remove_if(kills.begin(), kills.end(), is_forgotten), kills.end());
}

}  // namespace experiment::shared
