import Models
import Synchronization

/// Which examples each step of a run sees: a pure function of the examples' lengths, the options and the step.
///
/// An epoch sees every example exactly once (or as often as its file's weight says), in an order drawn from (seed, epoch)
/// alone, so that a run resumed at any step goes on exactly as the unbroken one.
///
/// Without packing, a micro-batch is `batchSize` examples of the epoch's order. With packing, the examples are put into
/// rows of `maxSequenceLength` tokens by best-fit, longest first (examples of equal length in the epoch's order), and a
/// micro-batch is `batchSize` rows in random order. With `batchTokens`, a micro-batch is one such row of so many tokens,
/// evened out: the rows are no longer than their number requires. A step is `gradientAccumulation` micro-batches; what is
/// left at the end of an epoch is a smaller step, nothing is dropped.
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
    /// Tokens of a micro-batch, instead of `batchSize` examples or rows.
    public var batchTokens: Int?
    /// Whether each epoch has an order of its own; otherwise the order of the files (packed: of each row's first example).
    public var shuffle: Bool
    /// Seed of the order.
    public var seed: UInt64

    /// Options with the defaults of a run.
    public init(
      batchSize: Int = 2, gradientAccumulation: Int = 4, maxSequenceLength: Int = 2048, packing: Bool = false,
      shuffle: Bool = true, seed: UInt64 = 3407, batchTokens: Int? = nil
    ) {
      self.batchSize = max(1, batchSize)
      self.gradientAccumulation = max(1, gradientAccumulation)
      self.maxSequenceLength = max(1, maxSequenceLength)
      self.packing = packing
      self.batchTokens = batchTokens
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

  /// Examples of one file, and how often an epoch sees them.
  public struct Part: Sendable, Equatable {
    /// Number of examples.
    public var count: Int
    /// 2: each twice; 0.5: half of them, drawn anew each epoch.
    public var weight: Double

    /// A part of the examples.
    public init(count: Int, weight: Double) {
      self.count = count
      self.weight = weight
    }
  }

  /// The options the schedule was made with.
  public let options: Options
  /// Steps of the first epoch; 0 without examples.
  ///
  /// Others may differ where a weight draws examples and rows are packed.
  public let stepsPerEpoch: Int
  /// Micro-batches of the first epoch.
  public let microBatchesPerEpoch: Int
  private let lengths: [Int]
  private let parts: [Part]
  /// Tokens of a row; `nil` where rows are single examples.
  private let capacity: Int?
  /// Where each epoch begins, for epochs that differ.
  private let starts: EpochStarts?

  /// Plans the batches of examples of `lengths` tokens, all of weight 1 unless `parts` say otherwise.
  public init(lengths: [Int], options: Options, parts: [Part] = []) {
    self.lengths = lengths
    self.options = options
    self.parts = parts.allSatisfy { $0.weight == 1 } ? [] : parts
    let counts = Self.copies(lengths.count, self.parts)
    var capacity = options.packing ? options.maxSequenceLength : nil
    if let tokens = options.batchTokens { capacity = Self.evenCapacity(lengths, counts, atMost: tokens) }
    self.capacity = capacity
    starts = capacity != nil && self.parts.contains { $0.weight != $0.weight.rounded(.down) } ? EpochStarts() : nil
    // Best-fit by length depends on the multiset of lengths alone: any order gives the same number of rows.
    var first = RandomSource(seed: options.seed, stream: 0)
    let rows = Self.rows(
      Self.order(lengths.count, self.parts, options.shuffle, &first), lengths, capacity
    ).count
    microBatchesPerEpoch = (rows + Self.rowsPerBatch(options) - 1) / Self.rowsPerBatch(options)
    stepsPerEpoch = (microBatchesPerEpoch + options.gradientAccumulation - 1) / options.gradientAccumulation
  }

  /// Tokens of the largest micro-batch that any step can have.
  public var mostTokens: Int {
    let longest = lengths.max() ?? 0
    return Self.rowsPerBatch(options) * max(capacity ?? 0, longest)
  }

  /// Steps of a run: `maxSteps` where given, else as many as `epochs` need, rounded up, at least one.
  public func totalSteps(epochs: Double, maxSteps: Int? = nil) -> Int {
    if let maxSteps { return maxSteps }
    guard stepsPerEpoch > 0 else { return 0 }
    let whole = epochs.rounded(.down)
    if starts != nil, let count = Int(exactly: whole), count < 100_000 {
      let last = steps(ofEpoch: count)
      return max(1, start(ofEpoch: count) + Int(((epochs - whole) * Double(last)).rounded(.up)))
    }
    let steps = (epochs * Double(stepsPerEpoch)).rounded(.up)
    return max(1, Int(exactly: steps) ?? Int.max)
  }

  /// Where step `step` of the run (counted from 0) lies: its epoch and its step there.
  public func position(ofStep step: Int) -> (epoch: Int, step: Int) {
    guard stepsPerEpoch > 0 else { return (0, 0) }
    guard starts != nil else { return (step / stepsPerEpoch, step % stepsPerEpoch) }
    var epoch = 0
    while start(ofEpoch: epoch + 1) <= step { epoch += 1 }
    return (epoch, step - start(ofEpoch: epoch))
  }

  /// The batches of epoch `epoch`, counted from 0.
  public func epoch(_ epoch: Int) -> Epoch {
    var random = RandomSource(seed: options.seed, stream: UInt64(max(0, epoch)))
    let order = Self.order(lengths.count, parts, options.shuffle, &random)
    var rows = Self.rows(order, lengths, capacity)
    if capacity != nil {
      if options.shuffle {
        random.shuffle(&rows)
      } else {
        rows = rows.map { $0.sorted() }.sorted { ($0.first ?? 0) < ($1.first ?? 0) }
      }
    }
    let size = Self.rowsPerBatch(options)
    let microBatches = stride(from: 0, to: rows.count, by: size).map { start in
      Array(rows[start..<min(start + size, rows.count)].joined())
    }
    return Epoch(microBatches: microBatches, gradientAccumulation: options.gradientAccumulation)
  }

  // MARK: Epochs that differ

  private func steps(ofEpoch number: Int) -> Int {
    let batches = epoch(number).microBatches.count
    return max(1, (batches + options.gradientAccumulation - 1) / options.gradientAccumulation)
  }

  private func start(ofEpoch epoch: Int) -> Int { starts?.start(of: epoch, steps: steps) ?? epoch * stepsPerEpoch }

  // MARK: Order and rows

  private static func rowsPerBatch(_ options: Options) -> Int { options.batchTokens == nil ? options.batchSize : 1 }

  /// How often an epoch sees each example at most, where files have weights.
  private static func copies(_ count: Int, _ parts: [Part]) -> [Int] {
    if parts.isEmpty { return Array(repeating: 1, count: count) }
    return parts.flatMap { Array(repeating: Int($0.weight.rounded(.up)), count: $0.count) }
  }

  /// The examples of an epoch in its order.
  private static func order(_ count: Int, _ parts: [Part], _ shuffle: Bool, _ random: inout RandomSource) -> [Int] {
    var order: [Int] = []
    if parts.isEmpty {
      order = Array(0..<count)
    } else {
      var first = 0
      for part in parts {
        let whole = Int(part.weight.rounded(.down))
        for _ in 0..<whole { order += first..<first + part.count }
        let share = part.weight - part.weight.rounded(.down)
        if share > 0, part.count > 0 {
          var drawn = Array(first..<first + part.count)
          random.shuffle(&drawn)
          order += drawn.prefix(max(1, Int((share * Double(part.count)).rounded()))).sorted()
        }
        first += part.count
      }
    }
    if shuffle { random.shuffle(&order) }
    return order
  }

  private static func rows(_ order: [Int], _ lengths: [Int], _ capacity: Int?) -> [[Int]] {
    guard let capacity else { return order.map { [$0] } }
    let places = order.indices.sorted { a, b in
      let (la, lb) = (lengths[order[a]], lengths[order[b]])
      return la == lb ? a < b : la > lb
    }
    var packer = BestFitPacker(capacity: capacity)
    for place in places { packer.add(order[place], length: lengths[order[place]]) }
    return packer.rows
  }

  /// The smallest size of rows, at most `limit`, for which there are as few as for `limit`: no row is left nearly empty.
  private static func evenCapacity(_ lengths: [Int], _ copies: [Int], atMost limit: Int) -> Int {
    var sorted: [Int] = []
    for (length, copies) in zip(lengths, copies) { sorted += repeatElement(min(length, limit), count: copies) }
    sorted.sort(by: >)
    guard let longest = sorted.first else { return limit }
    func rows(_ capacity: Int) -> Int {
      var packer = BestFitPacker(capacity: capacity)
      for (index, length) in sorted.enumerated() { packer.add(index, length: length) }
      return packer.rows.count
    }
    let fewest = rows(limit)
    let total = sorted.reduce(0, +)
    var (low, high) = (max(longest, (total + fewest - 1) / fewest), limit)
    // More room can need more rows now and then, but nearly always the number falls with the size.
    while low < high {
      let middle = low + (high - low) / 2
      if rows(middle) <= fewest { high = middle } else { low = middle + 1 }
    }
    return high
  }
}

/// The first steps of epochs, found as far as they are asked for.
private final class EpochStarts: Sendable {
  private let known = Mutex([0])

  func start(of epoch: Int, steps: (Int) -> Int) -> Int {
    known.withLock { known in
      while known.count <= epoch { known.append(known[known.count - 1] + steps(known.count - 1)) }
      return known[epoch]
    }
  }
}
