/// A linear layer: a frozen matrix and, when it is being fine-tuned or an adapter is loaded, a low-rank pair beside it.
public struct Projection: Sendable {
  /// W: `[outputs, inputs]`.
  public let matrix: any FrozenMatrix
  /// The adapter beside it.
  public var lowRank: LowRankPair?

  /// Where the gradient of W is added up, fp32 `[outputs, inputs]`; nil while W stays as it is.
  public var gradient: Tensor?

  /// A projection from its parts.
  public init(_ matrix: any FrozenMatrix, lowRank: LowRankPair? = nil) {
    self.matrix = matrix
    self.lowRank = lowRank
  }

  /// The number of output features.
  public var outputs: Int { matrix.outputs }
  /// The number of input features.
  public var inputs: Int { matrix.inputs }
}

/// What makes one step's dropout reproducible: the same key drops the same elements, forward, backward and recomputed.
public struct DropoutKey: Sendable, Equatable {
  /// The run's seed.
  public var seed: UInt64
  /// A number that no other micro-batch of the run has.
  public var counter: UInt64
  /// The batch's row that an operation's first row is: not 0 where a batch goes through in pieces.
  package var firstRow = 0

  /// A key from its parts.
  public init(seed: UInt64, counter: UInt64) {
    self.seed = seed
    self.counter = counter
  }
}

extension LowRankPair {
  /// The generator's stream: this pair in this micro-batch.
  ///
  /// Element (r, c) of x `[T, inputs]`, rows counted from the batch's first, is dropped where Philox 4×32-10 of (r · inputs + c, stream) under the key's seed lies
  /// below the probability, on every device alike.
  package func dropoutStream(_ key: DropoutKey) -> UInt64 { key.counter << 20 ^ UInt64(stream) }
}
