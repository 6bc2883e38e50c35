import CUDADriver
import Tensors

/// Pinned host memory on the way to the GPU, a ring in four quarters: what was copied from a quarter is over before the
/// quarter is written again.
///
/// Beside each byte of it lies one on the GPU, for what must be converted there.
final class Staging {
  /// The most bytes of one piece.
  static let pieceBytes = 8 << 20
  private static let quarters = 4

  private let context: CUDAContext
  private let host: UnsafeMutableRawPointer
  private let mirror: DeviceBuffer
  private var events: [UnsafeMutableRawPointer] = []
  private var used = [Bool](repeating: false, count: quarters)
  private var quarter = 0
  private var offset = 0

  init(_ context: CUDAContext, mirror: DeviceBuffer) throws {
    self.context = context
    self.mirror = mirror
    var address: UnsafeMutableRawPointer?
    try context.check(
      context.driver.pointee.allocateHost(&address, Self.byteCount, 0), "pinning \(Self.byteCount >> 20) MiB of memory")
    guard let address else { throw DeviceError("the driver pinned no memory") }
    host = address
    for _ in 0..<Self.quarters {
      var event: UnsafeMutableRawPointer?
      // 2: without a time.
      try context.check(context.driver.pointee.createEvent(&event, 2), "making an event")
      if let event { events.append(event) }
    }
  }

  deinit {
    context.enterForRelease()
    _ = context.driver.pointee.synchronize(context.stream)
    for event in events { _ = context.driver.pointee.destroyEvent(event) }
    _ = context.driver.pointee.releaseHost(host)
  }

  /// Bytes of the ring.
  static var byteCount: Int { pieceBytes * quarters }

  /// Room for `byteCount` bytes, at most ``pieceBytes``, to write and then to copy in stream order.
  func piece(_ byteCount: Int) throws -> (host: UnsafeMutableRawPointer, mirror: UInt64) {
    if offset + byteCount > Self.pieceBytes {
      try context.check(context.driver.pointee.record(events[quarter], context.stream), "recording an event")
      used[quarter] = true
      quarter = (quarter + 1) % Self.quarters
      offset = 0
      if used[quarter] {
        try context.check(context.driver.pointee.waitEvent(events[quarter]), "waiting for copies to the GPU")
      }
    }
    let at = quarter * Self.pieceBytes + offset
    offset += (byteCount + 255) / 256 * 256
    return (host + at, UInt64(mirror.address) + UInt64(at))
  }
}
