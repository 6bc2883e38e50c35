import Tensors

/// Keys and values of one sequence, by layer, so that each new token is computed once.
///
/// On a device with virtual memory it takes memory page by page as tokens come, so that a large capacity costs nothing.
public final class KeyValueCache {
  /// The most tokens it can hold.
  public let capacity: Int
  /// How many tokens it holds.
  public var length: Int { tokens.count }
  /// The tokens whose keys and values it holds.
  private(set) var tokens: [Int32] = []
  /// What decided the angles by which its keys are turned; see ``RotaryEmbedding/regime(length:)``.
  var rotaryRegime: Int?
  /// Compute `[capacity, keyValueHeads · headDimension]`, by layer.
  let keys: [Tensor]
  let values: [Tensor]

  init(_ shape: ModelShape, capacity: Int, on device: any Device) throws {
    self.capacity = capacity
    // The last chunk of a prompt is filled up to whole rows of the device's alignment.
    let rows = capacity + device.rowAlignment
    let bytes = rows * shape.keyValueWidth * device.computeType.byteCount
    let buffer = try device.allocateGrowing(byteCount: 2 * shape.layerCount * bytes)
    let all = (0..<2 * shape.layerCount).map {
      Tensor(buffer, byteOffset: $0 * bytes, rows: rows, columns: shape.keyValueWidth, dtype: device.computeType)
    }
    keys = Array(all.prefix(shape.layerCount))
    values = Array(all.suffix(shape.layerCount))
  }

  /// How many of `tokens` stand at its beginning.
  public func commonPrefix(with tokens: [Int32]) -> Int {
    zip(self.tokens, tokens).prefix { $0 == $1 }.count
  }

  /// Forgets all tokens from `count` on.
  public func truncate(to count: Int) { tokens.removeLast(max(0, length - max(0, count))) }

  /// Notes that the keys and values of `tokens` stand after the others.
  func append(_ tokens: [Int32]) { self.tokens += tokens }
}
