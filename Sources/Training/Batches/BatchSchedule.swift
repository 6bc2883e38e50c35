import Models

/// Which examples each step of a run sees: a pure function of the examples' lengths, the options and the step.
///
/// An epoch sees every example exactly once, in an order drawn from (seed, epoch) alone, so that a run resumed at any step
/// goes on exactly as the unbroken one. Every epoch has the same number of steps.
///
/// Without packing, a micro-batch is `batchSize` examples of the epoch's order. With packing, the examples are put into
/// rows of `maxSequenceLength` tokens by best-fit, longest first (examples of equal length in the epoch's order), and a
/// micro-batch is `batchSize` rows in random order. A step is `gradientAccumulation` micro-batches; what is left at the end
/// of an epoch is a smaller step, nothing is dropped.
public struct BatchSchedule: Sendable {
  /// What the order and the sizes depend on, beside the examples.
  public struct Options: Sendable, Equatable {
    /// Examples, or packed rows, of a micro-batch.
    public var batchSize: Int
    /// Micro-batches of a step.
    public var gradientAccumulation: Int
    /// Tokens of a packed row at most.
    public var maxSequenceLength: Int
    /// Whether short examples share a row.
    public var packing: Bool
    /// Whether each epoch has an order of its own; otherwise the order of the files (packed: of each row's first example).
    public var shuffle: Bool
    /// Seed of the order.
    public var seed: UInt64

    /// Options with the defaults of a run.
    public init(
      batchSize: Int = 2, gradientAccumulation: Int = 4, maxSequenceLength: Int = 2048, packing: Bool = false,
      shuffle: Bool = true, seed: UInt64 = 3407
    ) {
      self.batchSize = max(1, batchSize)
      self.gradientAccumulation = max(1, gradientAccumulation)
      self.maxSequenceLength = max(1, maxSequenceLength)
      self.packing = packing
      self.shuffle = shuffle
      self.seed = seed
    }
  }

  /// The examples of one epoch, micro-batch by micro-batch.
  public struct Epoch: Sendable, Equatable {
    /// Indices of the examples of each micro-batch.
    public let microBatches: [[Int]]
    let gradientAccumulation: Int

    /// The micro-batches of step `step` of this epoch; empty past the last.
    public func microBatches(ofStep step: Int) -> ArraySlice<[Int]> {
      let start = min(max(0, step) * gradientAccumulation, microBatches.count)
      return microBatches[start..<min(start + gradientAccumulation, microBatches.count)]
    }
  }

  /// The options the schedule was made with.
  public let options: Options
  /// Steps of every epoch; 0 without examples.
  public let stepsPerEpoch: Int
  /// Micro-batches of every epoch.
  public let microBatchesPerEpoch: Int
  private let lengths: [Int]

  /// Plans the batches of examples of `lengths` tokens.
  public init(lengths: [Int], options: Options) {
    self.lengths = lengths
    self.options = options
    // Best-fit by length depends on the multiset of lengths alone: any order gives the same number of rows.
    let rows =
      options.packing
      ? Self.packedRows(Array(lengths.indices), lengths, options.maxSequenceLength).count : lengths.count
    microBatchesPerEpoch = (rows + options.batchSize - 1) / options.batchSize
    stepsPerEpoch = (microBatchesPerEpoch + options.gradientAccumulation - 1) / options.gradientAccumulation
  }

  /// Steps of a run: `maxSteps` where given, else as many as `epochs` need, rounded up, at least one.
  public func totalSteps(epochs: Double, maxSteps: Int? = nil) -> Int {
    if let maxSteps { return maxSteps }
    guard stepsPerEpoch > 0 else { return 0 }
    let steps = (epochs * Double(stepsPerEpoch)).rounded(.up)
    return max(1, Int(exactly: steps) ?? Int.max)
  }

  /// Where step `step` of the run (counted from 0) lies: its epoch and its step there.
  public func position(ofStep step: Int) -> (epoch: Int, step: Int) {
    guard stepsPerEpoch > 0 else { return (0, 0) }
    return (step / stepsPerEpoch, step % stepsPerEpoch)
  }

  /// The batches of epoch `epoch`, counted from 0.
  public func epoch(_ epoch: Int) -> Epoch {
    var random = RandomSource(seed: options.seed, stream: UInt64(max(0, epoch)))
    var order = Array(lengths.indices)
    if options.shuffle { random.shuffle(&order) }
    var rows: [[Int]]
    if options.packing {
      rows = Self.packedRows(order, lengths, options.maxSequenceLength)
      if options.shuffle {
        random.shuffle(&rows)
      } else {
        rows = rows.map { $0.sorted() }.sorted { ($0.first ?? 0) < ($1.first ?? 0) }
      }
    } else {
      rows = order.map { [$0] }
    }
    let size = options.batchSize
    let microBatches = stride(from: 0, to: rows.count, by: size).map { start in
      Array(rows[start..<min(start + size, rows.count)].joined())
    }
    return Epoch(microBatches: microBatches, gradientAccumulation: options.gradientAccumulation)
  }

  private static func packedRows(_ order: [Int], _ lengths: [Int], _ capacity: Int) -> [[Int]] {
    let places = order.indices.sorted { a, b in
      let (la, lb) = (lengths[order[a]], lengths[order[b]])
      return la == lb ? a < b : la > lb
    }
    var packer = BestFitPacker(capacity: capacity)
    for place in places { packer.add(order[place], length: lengths[order[place]]) }
    return packer.rows
  }
}
