import CUDADriver
import Tensors

/// Pinned memory of the host, and a stream of its own that copies to and from it beside the one that computes.
final class CUDAHostStore: HostStore {
  private let context: CUDAContext
  private let byteCounts: [Int]
  private var stream: UnsafeMutableRawPointer?
  private var places: [UnsafeMutableRawPointer] = []
  /// Recorded in the computing stream before a transfer begins.
  private var ready: UnsafeMutableRawPointer?
  /// By place: recorded when its last transfer is over.
  private var ended: [UnsafeMutableRawPointer] = []

  init(_ context: CUDAContext, places byteCounts: [Int]) throws {
    self.context = context
    self.byteCounts = byteCounts
    try context.enter()
    let driver = context.driver.pointee
    try context.check(driver.createStream(&stream, 1), "making a stream")
    // 2: without a time.
    try context.check(driver.createEvent(&ready, 2), "making an event")
    for (place, byteCount) in byteCounts.enumerated() {
      var address: UnsafeMutableRawPointer?
      let code = driver.allocateHost(&address, max(byteCount, 1), 0)
      guard code == 0, let address else {
        throw DeviceError(
          "the host gave \(byteCounts[..<place].reduce(0, +) >> 20) MiB of pinned memory, "
            + "\(byteCounts.reduce(0, +) >> 20) MiB are needed for what layers keep there: lower --max-seq-length or "
            + "--batch-size, or raise --memory")
      }
      places.append(address)
      var event: UnsafeMutableRawPointer?
      try context.check(driver.createEvent(&event, 2), "making an event")
      if let event { ended.append(event) }
    }
  }

  deinit {
    context.enterForRelease()
    let driver = context.driver.pointee
    if let stream {
      _ = driver.synchronize(stream)
      _ = driver.destroyStream(stream)
    }
    for event in ended { _ = driver.destroyEvent(event) }
    if let ready { _ = driver.destroyEvent(ready) }
    for place in places { _ = driver.releaseHost(place) }
  }

  func store(_ tensors: [Tensor], in place: Int) throws { try transfer(tensors, place, out: true) }
  func fetch(_ place: Int, into tensors: [Tensor]) throws { try transfer(tensors, place, out: false) }

  func wait(_ place: Int) throws {
    try context.enter()
    try context.check(
      context.driver.pointee.waitInStream(context.stream, ended[place], 0), "waiting for the host's memory")
  }

  private func transfer(_ tensors: [Tensor], _ place: Int, out: Bool) throws {
    guard let stream, let ready, tensors.reduce(0, { $0 + $1.byteCount }) <= byteCounts[place] else {
      throw DeviceError(
        "a place of \(byteCounts[place]) bytes in the host's memory is too small for what a layer keeps")
    }
    try context.enter()
    let driver = context.driver.pointee
    try context.check(driver.record(ready, context.stream), "recording an event")
    try context.check(driver.waitInStream(stream, ready, 0), "ordering a copy after the work before it")
    var host = places[place]
    for tensor in tensors where tensor.count > 0 {
      try copy(tensor, host, out: out, stream)
      host += tensor.byteCount
    }
    try context.check(driver.record(ended[place], stream), "recording an event")
  }

  /// Copies a tensor to or from dense memory of the host.
  private func copy(
    _ tensor: Tensor, _ host: UnsafeMutableRawPointer, out: Bool, _ stream: UnsafeMutableRawPointer
  ) throws {
    let driver = context.driver.pointee
    if tensor.isDense {
      try context.check(
        out
          ? driver.copyOut(host, UInt64(tensor.address), tensor.byteCount, stream)
          : driver.copyIn(UInt64(tensor.address), host, tensor.byteCount, stream), "copying beside the computation")
      return
    }
    var copy = sl_row_copy()
    let width = tensor.columns * tensor.dtype.byteCount
    (copy.width, copy.height) = (width, tensor.rows)
    // Kinds: 1 the host, 2 the GPU.
    if out {
      (copy.sourceKind, copy.sourceDevice, copy.sourcePitch) = (
        2, UInt64(tensor.address), tensor.rowStride * tensor.dtype.byteCount
      )
      (copy.targetKind, copy.targetHost, copy.targetPitch) = (1, host, width)
    } else {
      (copy.sourceKind, copy.sourceHost, copy.sourcePitch) = (1, UnsafeRawPointer(host), width)
      (copy.targetKind, copy.targetDevice, copy.targetPitch) = (
        2, UInt64(tensor.address), tensor.rowStride * tensor.dtype.byteCount
      )
    }
    try context.check(driver.copyRows(&copy, stream), "copying beside the computation")
  }
}

extension CUDADevice {
  /// Pinned memory, copied to and from in a stream of its own.
  public func makeHostStore(places byteCounts: [Int]) throws -> any HostStore {
    try CUDAHostStore(context, places: byteCounts)
  }
}
