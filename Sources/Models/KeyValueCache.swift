import Tensors

/// Keys and values of one sequence, by layer, so that each new token is computed once.
///
/// It takes memory as tokens come, so that a large capacity costs nothing: page by page of the model's pool on a device with
/// memory of its own, by virtual memory elsewhere.
public final class KeyValueCache {
  /// The most tokens it can hold.
  public let capacity: Int
  /// How many tokens it holds.
  public var length: Int { tokens.count }
  /// The tokens whose keys and values it holds.
  private(set) var tokens: [Int32] = []
  /// What decided the angles by which its keys are turned; see ``RotaryEmbedding/regime(length:)``.
  var rotaryRegime: Int?
  let storage: Storage

  /// Where the keys and values lie.
  enum Storage {
    /// Compute `[capacity, keyValueHeads · headDimension]`, by layer.
    case whole(keys: [Tensor], values: [Tensor])
    case paged(CachePages, any PagedDecoding)
  }

  init(_ shape: ModelShape, capacity: Int, pool: CachePagePool, on device: any Device) throws {
    self.capacity = capacity
    if let paged = device.pagedDecoding {
      storage = .paged(try CachePages(capacity: capacity, from: pool, on: device), paged)
      return
    }
    // The last chunk of a prompt is filled up to whole rows of the device's alignment.
    let rows = capacity + device.rowAlignment
    let bytes = rows * shape.keyValueWidth * device.computeType.byteCount
    let buffer = try device.allocateGrowing(byteCount: 2 * shape.layerCount * bytes)
    let all = (0..<2 * shape.layerCount).map {
      Tensor(buffer, byteOffset: $0 * bytes, rows: rows, columns: shape.keyValueWidth, dtype: device.computeType)
    }
    storage = .whole(
      keys: Array(all.prefix(shape.layerCount)), values: Array(all.suffix(shape.layerCount)))
  }

  /// How many of `tokens` stand at its beginning.
  public func commonPrefix(with tokens: [Int32]) -> Int {
    zip(self.tokens, tokens).prefix { $0 == $1 }.count
  }

  /// Forgets all tokens from `count` on.
  public func truncate(to count: Int) {
    tokens.removeLast(max(0, length - max(0, count)))
    if case .paged(let pages, _) = storage { pages.shrink(to: length) }
  }

  /// Notes that the keys and values of `tokens` stand after the others.
  func append(_ tokens: [Int32]) { self.tokens += tokens }

  /// Makes room for `count` more tokens, where that is not made by writing them.
  func grow(by count: Int) throws {
    if case .paged(let pages, _) = storage { try pages.grow(to: length + count) }
  }
}
