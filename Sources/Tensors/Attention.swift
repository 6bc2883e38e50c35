/// One document's place in a packed batch: query rows `queries` attend causally to key rows `keys`, whose last
/// `queries.count` rows belong to the queries themselves (all of them in training; fewer when keys come from a cache).
public struct AttentionSpan: Sendable, Equatable {
  /// Rows of q and of the output.
  public var queries: Range<Int>
  /// Rows of k and v; at least as many as queries.
  public var keys: Range<Int>

  /// A span from its parts.
  public init(queries: Range<Int>, keys: Range<Int>) {
    self.queries = queries
    self.keys = keys
  }
}

/// The shape of an attention layer.
public struct AttentionShape: Sendable, Equatable {
  /// Query heads; a multiple of `keyValueHeads`.
  public var heads: Int
  /// Key and value heads, each shared by `heads / keyValueHeads` query heads in a row.
  public var keyValueHeads: Int
  /// Features of one head.
  public var headDimension: Int
  /// How far back a query sees: its own key and the `window - 1` before it; nil: all.
  public var window: Int?
  /// What scores are multiplied by before the softmax.
  public var scale: Float

  /// A shape from its parts; the scale is 1/√headDimension unless given.
  public init(heads: Int, keyValueHeads: Int, headDimension: Int, window: Int? = nil, scale: Float? = nil) {
    self.heads = heads
    self.keyValueHeads = keyValueHeads
    self.headDimension = headDimension
    self.window = window
    self.scale = scale ?? 1 / Float(headDimension).squareRoot()
  }
}
