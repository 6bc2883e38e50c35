import ModelFiles

/// What a run will still write, at most.
struct DiskNeeds: Equatable {
  /// Bytes of one checkpoint.
  var checkpoint: Int
  /// Bytes of what the run's folder gets at the end.
  var result: Int
  /// Checkpoints that will be written.
  var saves: Int
  /// Checkpoints kept besides the best; nil: all.
  var limit: Int?
  /// Lines that `metrics.jsonl` will get.
  var metricsLines: Int

  /// The bytes that must be free, `Int.max` where they cannot be counted.
  ///
  /// `existing`: checkpoints that are there already, which give way to new ones where there is a limit.
  func byteCount(existing: Int) -> Int {
    // Besides those that the limit keeps: the best, and the one being written before another goes.
    let kept = limit.map { min(saves, max(1, $0 + 2 - existing)) } ?? saves
    let (checkpoints, overflow) = checkpoint.multipliedReportingOverflow(by: kept)
    let (lines, linesOverflow) = metricsLines.multipliedReportingOverflow(by: 400)
    if overflow || linesOverflow { return .max }
    return [checkpoints, result, lines].reduce(1 << 20) { sum, part in
      let (next, overflow) = sum.addingReportingOverflow(part)
      return overflow ? .max : next
    }
  }
}

extension RunFolder {
  /// Refuses with one line when the disk has less free space than the run will write.
  func checkSpace(_ needs: DiskNeeds) throws {
    let needed = needs.byteCount(existing: checkpoints.entries.count)
    guard let free = freeSpace(in: path), needed > free else { return }
    func gigabytes(_ bytes: Int) -> String {
      let tenths = bytes / 100_000_000
      return "\(tenths / 10).\(tenths % 10) GB"
    }
    throw RunError(
      path,
      "the disk has too little space: \(needs.saves) checkpoints and the result may take \(gigabytes(needed)), "
        + "\(gigabytes(free)) are free; give --save-limit, raise --save-steps, or choose another --output")
  }
}
