import ModelFiles

/// What a run will still write, at most.
struct DiskNeeds {
  /// Bytes of one checkpoint.
  var checkpoint: Int
  /// Bytes of what the run's folder gets at the end.
  var result: Int
  /// Checkpoints that will be written.
  var saves: Int
  /// Checkpoints kept besides the best; nil: all.
  var limit: Int?
  /// Lines that the log will get, and the bytes of one there, in TensorBoard's events and in the report.
  var lines: (count: Int, bytes: Int)
  /// Answers to prompts, and the bytes of one in the same places.
  var answers: (count: Int, bytes: Int) = (0, 0)

  /// The bytes that must be free, `Int.max` where they cannot be counted.
  ///
  /// `existing`: checkpoints that are there already, which give way to new ones where there is a limit.
  func byteCount(existing: Int) -> Int {
    // Besides those that the limit keeps: the best, and the one being written before another goes.
    let kept = limit.map { min(saves, max(1, $0 + 2 - existing)) } ?? saves
    // Pages and small files, whose size does not depend on the run's length.
    var sum = (partialValue: 2 << 20, overflow: false)
    for (count, bytes) in [(kept, checkpoint), (1, result), lines, answers] where !sum.overflow {
      let product = count.multipliedReportingOverflow(by: bytes)
      sum = sum.partialValue.addingReportingOverflow(product.partialValue)
      sum.overflow = sum.overflow || product.overflow
    }
    return sum.overflow ? .max : sum.partialValue
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
      "the disk has too little space: \(needs.saves) checkpoints, the result and the log may take \(gigabytes(needed)), "
        + "\(gigabytes(free)) are free; give --save-limit, raise --save-steps, or choose another --output")
  }
}
