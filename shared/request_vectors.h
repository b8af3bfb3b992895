// Request metrics of a zone in the form of counters, so that a fleet adds them up as it adds up everything else.
//
// They need no epoch: CounterKey::epoch is the row (0: baseline, 1 + a: arm a), and ids below 2^20 are no epoch's. A
// vector holds, in this order: requests by status class, by cache status, bytes sent, upstream failures, request times
// by bucket and their sum in ms, upstream times by bucket and their sum in ms. Called by the leader's step, lock-free.
#pragma once

#include "shared/counters.h"
#include "shared/zone.h"

namespace experiment::shared {

inline constexpr int kLatencyColumns = kLatencyBuckets + 1;
inline constexpr int kRequestColumns = kStatusClasses + kCacheStatuses + 2 + 2 * kLatencyColumns;

// Adds the vectors of rows that had a request.
void read_request_vectors(const Zone& zone, Counters& into);

}  // namespace experiment::shared
