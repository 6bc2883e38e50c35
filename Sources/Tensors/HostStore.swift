/// Memory of the host that a device moves tensors to and from while it goes on computing: places, each of its size.
///
/// Transfers of one store happen one after the other, in the order in which they were asked for.
public protocol HostStore: AnyObject {
  /// Begins to copy `tensors` to a place, after all work that was asked for before.
  ///
  /// They must not change until ``wait(_:)`` has been called for the place.
  func store(_ tensors: [Tensor], in place: Int) throws
  /// Begins to copy a place's content back into tensors of the shapes that were stored, after all work that was asked for
  /// before.
  func fetch(_ place: Int, into tensors: [Tensor]) throws
  /// Work that is asked for from now on waits until the place's last transfer is over.
  func wait(_ place: Int) throws
}

/// A store of a device whose calls are over when they return.
final class PlainHostStore: HostStore {
  private var places: [UnsafeMutableRawBufferPointer?]
  private let device: any Device

  init(places: Int, on device: any Device) {
    self.places = [UnsafeMutableRawBufferPointer?](repeating: nil, count: places)
    self.device = device
  }

  deinit { for place in places { place?.deallocate() } }

  func store(_ tensors: [Tensor], in place: Int) throws {
    let bytes = tensors.reduce(0) { $0 + $1.byteCount }
    if (places[place]?.count ?? 0) < bytes {
      places[place]?.deallocate()
      places[place] = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: 64)
    }
    try forEach(tensors, in: place) { try device.download($0, to: $1) }
  }

  func fetch(_ place: Int, into tensors: [Tensor]) throws {
    try forEach(tensors, in: place) { try device.upload(UnsafeRawBufferPointer($1), to: $0) }
  }

  func wait(_ place: Int) throws {}

  private func forEach(
    _ tensors: [Tensor], in place: Int, _ body: (Tensor, UnsafeMutableRawBufferPointer) throws -> Void
  ) throws {
    guard let memory = places[place], tensors.reduce(0, { $0 + $1.byteCount }) <= memory.count else {
      throw DeviceError("nothing lies in place \(place) of the host's memory")
    }
    var offset = 0
    for tensor in tensors {
      try body(tensor, UnsafeMutableRawBufferPointer(rebasing: memory[offset..<offset + tensor.byteCount]))
      offset += tensor.byteCount
    }
  }
}
