import Tensors

/// Pages of a model's caches: as many as its sequences hold, and what the next ones take over.
///
/// A page holds ``CachePage/tokens`` tokens' keys and values of every layer. Nothing that a page holds ever moves.
final class CachePagePool {
  private let device: any Device
  private let pageBytes: Int
  private var idle: [Tensor] = []
  private var inUse = 0

  init(_ shape: ModelShape, on device: any Device) {
    self.device = device
    pageBytes = 2 * shape.layerCount * CachePage.tokens * shape.keyValueWidth * device.computeType.byteCount
  }

  /// A page of undefined content.
  func take() throws -> Tensor {
    if idle.isEmpty {
      // A driver takes as long for many pages as for one.
      let wanted = min(max(inUse / 4, 1), 16)
      idle = try allocate(wanted) ?? allocate(1) ?? []
    }
    guard let page = idle.popLast() else { throw ModelError("no page of the cache was given") }
    inUse += 1
    return page
  }

  private func allocate(_ count: Int) throws -> [Tensor]? {
    let stride = (pageBytes + 255) / 256 * 256
    let buffer: DeviceBuffer
    do { buffer = try device.allocate(byteCount: count * stride) } catch {
      if count > 1 { return nil }
      throw error
    }
    return (0..<count).map {
      Tensor(buffer, byteOffset: $0 * stride, rows: 1, columns: pageBytes, dtype: .uint8)
    }
  }

  /// Takes pages back; when no sequence has any, the device gets its memory.
  func give(back pages: [Tensor]) {
    inUse -= pages.count
    if inUse == 0 { idle = [] } else { idle += pages }
  }
}

/// The pages of one sequence.
final class CachePages {
  private let pool: CachePagePool
  private let device: any Device
  private var pages: [Tensor] = []
  /// The pages' addresses, eight bytes each, on the device.
  let list: Tensor

  init(capacity: Int, from pool: CachePagePool, on device: any Device) throws {
    self.pool = pool
    self.device = device
    let count = (capacity + CachePage.tokens - 1) / CachePage.tokens
    let bytes = max(count, 1) * 8
    list = Tensor(try device.allocate(byteCount: bytes), rows: 1, columns: bytes, dtype: .uint8)
  }

  deinit { pool.give(back: pages) }

  /// Makes room for `tokens` tokens.
  func grow(to tokens: Int) throws {
    let first = pages.count
    while pages.count * CachePage.tokens < tokens { pages.append(try pool.take()) }
    guard pages.count > first else { return }
    try pages[first...].map { UInt64($0.address) }.withUnsafeBytes {
      try device.upload($0, to: list.columns(first * 8..<pages.count * 8))
    }
  }

  /// Gives back what lies behind the first `tokens` tokens.
  func shrink(to tokens: Int) {
    let kept = (tokens + CachePage.tokens - 1) / CachePage.tokens
    guard pages.count > kept else { return }
    pool.give(back: Array(pages[kept...]))
    pages.removeLast(pages.count - kept)
  }
}
