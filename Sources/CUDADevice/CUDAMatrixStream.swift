import CUDADriver
import Tensors

/// Matrices in pinned memory of the host, segment by segment, that come to places on the GPU in a stream of their own.
///
/// Segment s has place s mod `places`. Who uses segments in their order, up or down, finds the next ones there or on their
/// way: when a segment is left, those that come next in its direction are fetched to the places that are free. Any other order is
/// right as well, and waits.
final class CUDAMatrixStream: MatrixStream, @unchecked Sendable {
  /// A segment of a stream of this device.
  struct Segment {
    let stream: CUDAMatrixStream
    let index: Int
  }

  let segmentCount: Int
  private let store: CUDAHostStore
  private let places: [DeviceBuffer]
  /// By place: the segment that lies there or is on its way.
  private var holds: [Int?]
  /// By place: whether nothing has waited for what is on its way.
  private var isComing: [Bool]
  /// The segment whose matrices are being made, and the memory that they are made in.
  private var making: (index: Int, memory: FrozenMemory)?
  /// The segment that was used last, and whether it is in use still.
  private(set) var last: Int
  private(set) var isInUse = false
  private var isRising = true

  init(segments: Int, byteCount: Int, places count: Int, on device: CUDADevice) throws {
    segmentCount = segments
    last = segments - 1
    store = try CUDAHostStore(device.context, places: [Int](repeating: byteCount, count: segments))
    places = try (0..<count).map { _ in try device.allocate(byteCount: byteCount) }
    holds = [Int?](repeating: nil, count: count)
    isComing = [Bool](repeating: false, count: count)
  }

  // MARK: Making

  /// The memory in which the matrices of a segment are made: a place on the GPU, from which they go to the host when the next
  /// segment is made, or used.
  func memory(for index: Int) throws -> FrozenMemory {
    if let making, making.index == index { return making.memory }
    try finishMaking()
    guard (0..<segmentCount).contains(index) else { throw DeviceError("a stream of matrices has no segment \(index)") }
    let place = index % places.count
    // What was made here before is on its way to the host.
    if let before = holds[place] { try store.wait(before) }
    holds[place] = index
    let memory = FrozenMemory(in: places[place])
    making = (index, memory)
    return memory
  }

  private func finishMaking() throws {
    guard let made = making else { return }
    making = nil
    try store.store([tensor(made.index % places.count)], in: made.index)
  }

  // MARK: Use

  /// Brings a segment, for what is asked of the GPU from now on.
  func require(_ index: Int) throws {
    if isInUse, last == index, making == nil { return }
    try finishMaking()
    // From one end to the other: again from the beginning.
    if index == last {
      if !isInUse { isRising.toggle() }
    } else {
      isRising = index > last || (last == segmentCount - 1 && index == 0 && segmentCount > 2)
    }
    (last, isInUse) = (index, true)
    let place = index % places.count
    if holds[place] != index { try fetch(index) }
    if isComing[place] {
      try store.wait(index)
      isComing[place] = false
    }
  }

  /// Says that the segment in use is not needed for now: its place may be taken by what comes next.
  func leave() throws {
    guard isInUse else { return }
    isInUse = false
    for distance in 1...places.count {
      let next = isRising ? last + distance : last - distance
      if (0..<segmentCount).contains(next), holds[next % places.count] != next { try fetch(next) }
    }
  }

  private func fetch(_ index: Int) throws {
    let place = index % places.count
    try store.fetch(index, into: [tensor(place)])
    (holds[place], isComing[place]) = (index, true)
  }

  private func tensor(_ place: Int) -> Tensor {
    Tensor(places[place], rows: 1, columns: places[place].byteCount, dtype: .uint8)
  }
}

extension CUDADevice {
  /// Pinned memory for segments of matrices, and places on the GPU that they come to.
  public func makeMatrixStream(_ shapes: [FrozenShape], places: Int) throws -> (any MatrixStream)? {
    let segments = Self.segmentBytes(of: shapes)
    guard let bytes = segments.max(), places > 0 else { return nil }
    return try CUDAMatrixStream(
      segments: segments.count, byteCount: bytes, places: min(places, segments.count), on: self)
  }

  /// Says that matrices of a segment are used next, or such as are always there.
  func use(_ segment: CUDAMatrixStream.Segment?) throws {
    if let activeStream, segment?.stream !== activeStream || !activeStream.isUsing(segment?.index) {
      try activeStream.leave()
    }
    try segment?.stream.require(segment?.index ?? 0)
    activeStream = segment?.stream
  }

  /// A segment of this device's.
  func own(_ segment: MatrixSegment) throws -> CUDAMatrixStream.Segment {
    guard let stream = segment.stream as? CUDAMatrixStream else {
      throw DeviceError("a stream of another device was given to \(context.name)")
    }
    return CUDAMatrixStream.Segment(stream: stream, index: segment.index)
  }
}

extension CUDAMatrixStream {
  /// Whether a segment is the one in use.
  func isUsing(_ index: Int?) -> Bool { isInUse && index == last }
}
