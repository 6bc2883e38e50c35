import Models
import Tensors

/// An optimizer's moments in the host's memory, which pass through two places on the device while they are used.
///
/// They lie in pieces. While one is used, the next is on its way to the other place, and the one before on its way back; the first
/// two are fetched for the next step as soon as the last has been used.
final class HostMoments {
  /// Some of a group's parameters.
  struct Piece {
    var group: Int
    /// Within the group.
    var range: Range<Int>
    var isQuantized: Bool
  }

  let pieces: [Piece]
  private let store: any HostStore
  private let places: [DeviceBuffer]
  private let maps: (first: Tensor, second: Tensor)?
  /// By place: the piece that lies there or is on its way.
  private var holds: [Int?] = [nil, nil]

  /// Room for the moments of groups of so many parameters, their content undefined.
  init(
    _ groups: [(count: Int, isQuantized: Bool)], maps: (first: Tensor, second: Tensor)?, on device: any Device,
    pieceLength: Int
  ) throws {
    pieces = groups.enumerated().flatMap { index, group in
      stride(from: 0, to: group.count, by: pieceLength).map {
        Piece(group: index, range: $0..<min($0 + pieceLength, group.count), isQuantized: group.isQuantized)
      }
    }
    let bytes = pieces.map { MomentPieces.byteCount($0.range.count, isQuantized: $0.isQuantized) }.max() ?? 1
    store = try device.makeHostStore(places: [Int](repeating: bytes, count: pieces.count))
    places = try (0..<MomentPieces.places).map { _ in try device.allocate(byteCount: bytes) }
    self.maps = maps
  }

  /// Gives `body` every piece's moments in turn, which it may change.
  func forEach(_ body: (Piece, Optimizer.Moments) throws -> Void) throws {
    for index in pieces.indices { try use(index, changes: true) { try body(pieces[index], $0) } }
    for index in 0..<min(2, pieces.count) { try bring(index) }
  }

  /// Fills every piece with what `body` writes.
  func fill(_ body: (Piece, Optimizer.Moments) throws -> Void) throws {
    for index in pieces.indices {
      if let before = holds[index % 2] { try store.wait(before) }
      holds[index % 2] = index
      try body(pieces[index], moments(index))
      try store.store([whole(index)], in: index)
    }
    // The host's memory may be read by nobody before it is written.
    for index in pieces.indices.suffix(2) { try store.wait(index) }
  }

  /// Gives `body` the moments of one piece.
  func use(_ index: Int, changes: Bool, _ body: (Optimizer.Moments) throws -> Void) throws {
    try bring(index)
    try store.wait(index)
    try body(moments(index))
    if changes { try store.store([whole(index)], in: index) }
    if changes, index + 2 < pieces.count { try bring(index + 2) }
  }

  private func bring(_ index: Int) throws {
    guard holds[index % 2] != index else { return }
    holds[index % 2] = index
    try store.fetch(index, into: [whole(index)])
  }

  private func whole(_ index: Int) -> Tensor {
    let piece = pieces[index]
    return Tensor(
      places[index % 2], rows: 1, columns: MomentPieces.byteCount(piece.range.count, isQuantized: piece.isQuantized),
      dtype: .uint8)
  }

  private func moments(_ index: Int) -> Optimizer.Moments {
    let piece = pieces[index]
    var offset = 0
    func next(_ count: Int, _ dtype: DType) -> Tensor {
      defer { offset += MomentPieces.aligned(count * dtype.byteCount) }
      return Tensor(places[index % 2], byteOffset: offset, rows: 1, columns: count, dtype: dtype)
    }
    let count = piece.range.count
    guard piece.isQuantized, let maps else {
      return .exact(first: next(count, .float32), second: next(count, .float32))
    }
    let scales = MomentPieces.scales(of: count)
    return .quantized(
      QuantizedMoments(
        firstCodes: next(count, .uint8), secondCodes: next(count, .uint8), firstScales: next(scales, .float32),
        secondScales: next(scales, .float32), firstMap: maps.first, secondMap: maps.second))
  }
}
