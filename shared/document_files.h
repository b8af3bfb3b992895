// The definition document of a state directory, and its version.
//
// Part of the FileStore. `definitions.json` belongs to people and their tools; it carries no version. `store.json` says
// which content got which version, so that all who look at the directory agree: a content that differs from the one
// numbered last gets the next version. `definitions.good.json` keeps the last document that a node accepted.
//
// What is published through the store goes the same way, by compare-and-set on the version, and is kept in the history
// with who published it; so is what it replaces, and what an edit by hand replaced, as far as a node had accepted that.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "shared/history_files.h"
#include "shared/state_directory.h"
#include "shared/store.h"

namespace experiment::shared {

class DocumentFiles {
 public:
  explicit DocumentFiles(StateDirectory& directory);
  // Answers the document's part of an exchange.
  void exchange(const Exchange& wants, Answer& answer);
  // The last document that a node accepted: kept, where `wants` has one, and read.
  void keep_good(const Exchange& wants, Answer& answer);
  std::optional<StoredDocument> last_good();
  // As in Store.
  Published publish(const Publication& publication);
  std::vector<DocumentVersion> history(std::string& error);

 private:
  struct Numbered {
    std::uint64_t version = 0;
    std::string digest;  // of the content; empty: none yet
  };
  void look_at_document(bool in_any_case);
  void report_fault(Answer& answer) const;
  void look_at_numbering(bool in_any_case, std::vector<std::string>& errors);
  void look_at_good();
  // Gives the content its version: the one that it has in store.json, else the next above `known` and all others.
  void number(const FileLock& lock, std::uint64_t known, std::vector<std::string>& errors);
  void record_number(const FileLock& lock, std::vector<std::string>& errors);
  void keep_replaced(std::vector<std::string>& errors);
  // Both require that the lock is held. Return: an error or nothing.
  std::string number_what_stands(const FileLock& lock);
  std::string replace_document(const Publication& publication);
  void hand_out(Answer& answer);

  StateDirectory& directory_;
  HistoryFiles history_;
  WatchedFile document_, numbering_, good_;
  std::string fault_;      // why definitions.json cannot be read; empty when it can
  std::string digest_;     // of its content, while it can be read
  Numbered numbered_;      // the content numbered last
  bool recorded_ = false;  // numbered_ is what store.json says
  Numbered kept_;          // what definitions.good.json holds
};

}  // namespace experiment::shared
