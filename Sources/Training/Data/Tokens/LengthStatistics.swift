import JSONValues

/// How long the examples of a dataset are.
public struct LengthStatistics: Sendable, Equatable {
  /// Examples of at most `upTo` tokens that are longer than the bucket before allows.
  public struct Bucket: Sendable, Equatable {
    /// Tokens at most.
    public var upTo: Int
    /// Number of examples.
    public var count: Int
  }

  /// The histogram, from the shortest to the longest; bounds are powers of two, and halves between them.
  public var buckets: [Bucket] = []
  /// Tokens of the shortest example.
  public var shortest = 0
  /// Tokens of the example in the middle.
  public var median = 0
  /// Tokens that 90 of 100 examples do not exceed.
  public var at90 = 0
  /// Tokens that 99 of 100 examples do not exceed.
  public var at99 = 0
  /// Tokens of the longest example.
  public var longest = 0
  /// Share of padding if the examples of a batch were filled up to its longest.
  ///
  /// Other trainers do so without packing; here no token is padding.
  public var paddingElsewhere = 0.0

  /// Statistics of lengths, with batches as a schedule lays them.
  public init(lengths: [Int], batches: [[Int]]) {
    let sorted = lengths.sorted()
    guard let first = sorted.first, let last = sorted.last else { return }
    func at(_ share: Double) -> Int { sorted[min(sorted.count - 1, Int(share * Double(sorted.count)))] }
    (shortest, median, at90, at99, longest) = (first, at(0.5), at(0.9), at(0.99), last)
    var bound = 16
    var next = 24
    var place = 0
    while place < sorted.count {
      let end = sorted[place...].firstIndex { $0 > bound } ?? sorted.count
      if end > place || !buckets.isEmpty { buckets.append(Bucket(upTo: bound, count: end - place)) }
      place = end
      (bound, next) = (next, bound * 2)
    }
    var (filled, used) = (0, 0)
    for batch in batches {
      let longest = batch.map { lengths[$0] }.max() ?? 0
      filled += longest * batch.count
      used += batch.reduce(0) { $0 + lengths[$1] }
    }
    paddingElsewhere = filled == 0 ? 0 : 1 - Double(used) / Double(filled)
  }

  /// Statistics of a dataset whose batches would have so many examples.
  public init(_ data: TokenizedDataset, batchSize: Int, seed: UInt64) {
    let lengths = data.lengths
    let options = BatchSchedule.Options(batchSize: batchSize, seed: seed)
    self.init(lengths: lengths, batches: BatchSchedule(lengths: lengths, options: options).epoch(0).microBatches)
  }

  /// The statistics for a file.
  public var json: JSONValue {
    [
      "shortest": .integer(shortest), "median": .integer(median), "p90": .integer(at90), "p99": .integer(at99),
      "longest": .integer(longest), "padding": 0, "padding_elsewhere": .number(paddingElsewhere),
      "histogram": .array(buckets.map { ["up_to": .integer($0.upTo), "count": .integer($0.count)] }),
    ]
  }
}
