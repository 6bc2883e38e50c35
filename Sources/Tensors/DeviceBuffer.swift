/// A block of a device's memory, given back when the last tensor that lies in it goes.
///
/// `address` is a host pointer on the CPU and a device pointer on a GPU: only the device that made the buffer may follow
/// it. Allocate few and large buffers (see ``Arena``); one per tensor would cost more than it saves.
public final class DeviceBuffer: @unchecked Sendable {
  /// Where the block begins.
  public let address: UInt
  /// How many bytes it holds.
  public let byteCount: Int
  private let release: (UInt) -> Void

  /// Takes ownership of a block; `release` is called once with its address.
  public init(address: UInt, byteCount: Int, release: @escaping (UInt) -> Void) {
    self.address = address
    self.byteCount = byteCount
    self.release = release
  }

  deinit { release(address) }
}
